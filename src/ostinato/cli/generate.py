"""`ostinato generate`: text from a run's checkpoint or a model folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ostinato.core.samples import Sample
    from ostinato.data.tokenizer import Tokenizer
    from ostinato.generation.generator import Generator
    from ostinato.generation.sampler import SamplingParams


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `generate` and `chat` share."""
    for option in reversed(
        [
            click.option("--step", type=int, help="The checkpoint of this step; default: the newest good one."),
            click.option("--max-new-tokens", type=int),
            click.option("--temperature", type=float, help="0: greedy."),
            click.option("--top-k", type=int),
            click.option("--top-p", type=float),
            click.option("--min-p", type=float),
            click.option("--repetition-penalty", type=float),
            click.option("--stop", multiple=True, help="Stop at this text (repeatable)."),
            click.option("--seed", type=int, default=0),
            click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"])),
            click.option("--root", default="experiments", help="The folder of the runs."),
        ]
    ):
        command = option(command)
    return command


@click.command("generate")
@click.argument("source", metavar="RUN_OR_MODEL")
@click.option("--prompt", "prompts", multiple=True, help="What to continue (repeatable); none: the config's prompts.")
@click.option("--prompts", "file", type=Path, help="A .jsonl file of rows, or a text file with a prompt a line.")
@click.option("--out", type=Path, help="JSON Lines to write; started again, it goes on where it was stopped.")
@click.option("--n", type=int, default=1, help="Samples per prompt.")
@click.option("--logprobs", type=int, default=0, help="Alternatives at each token, with --ids.")
@click.option("--ids", is_flag=True, help="Write token ids and log-probs too.")
@click.option("--slots", type=int, default=64, help="Samples computed together, a power of two.")
@click.option("--fast", is_flag=True, help="Equal up to rounding rather than bit by bit, whatever else is sampled.")
@click.option("--plain", is_flag=True, help="Do not put the prompt into the chat format it was trained on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@sampling_options
def command(
    source: str, prompts: tuple[str, ...], file: Path | None, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Sample text. RUN_OR_MODEL is a run's name, its folder, or a folder with config.json and safetensors.

    What is not said comes from the run's own `generation` section. Of a file's rows `prompt` or `messages` is
    continued; all their keys are written beside `text`, `sample` and `stop_reason`.
    """
    from ostinato.core.errors import UserError
    from ostinato.generation.generator import Generator

    if (file is None) != (out is None) or (file is not None and (prompts or as_json)):
        raise UserError("--prompts FILE and --out FILE go together, and without --prompt and --json.")
    chosen = open_model(source, options)
    generator = Generator(chosen.tokenizer, options["slots"], exact=not options["fast"])
    if file is not None and out is not None:
        run_file(chosen, generator, file, out, options)
        return
    texts = list(prompts) or (list(chosen.config.generation.prompts) if chosen.config else []) or [""]
    samples = generator.generate(chosen.model, [chosen.encode(text) for text in texts], chosen.params)
    if as_json:
        click.echo(json.dumps([{**vars(s), "prompt_text": texts[s.prompt]} for s in samples], ensure_ascii=False))
        return
    chat = chosen.encode(texts[0]) != chosen.tokenizer.encode(texts[0])
    for one in samples:
        click.echo(f"{'> ' if chat else ''}{texts[one.prompt]}{chr(10) if chat else ''}{one.text}")
        if len(samples) > 1:
            click.echo("---")


def run_file(chosen: Chosen, generator: Generator, file: Path, out: Path, options: dict[str, Any]) -> None:
    """Every prompt of a file, but for what `out` holds already."""
    from ostinato.cli.prompt_files import SampleFile, encoded, read_prompts
    from ostinato.cli.sampling_progress import SamplingProgress
    from ostinato.core.manifest import hash_file

    asked, params = read_prompts(file), chosen.params
    ids = encoded(asked, chosen.encode, getattr(chosen.model, "max_positions", None))
    said = {name: options[name] for name in ("plain", "ids", "fast")}
    settings = {"model": chosen.facts, "prompts": hash_file(file), **dataclasses.asdict(params), **said}
    total = len(asked) * params.n
    samples = SampleFile(out, settings, total, with_ids=options["ids"])
    first = samples.done // params.n
    if samples.done:
        click.echo(f"{out}: {samples.done} of {total} samples are there already")
    progress = SamplingProgress(total, samples.done)

    def finished(sample: Sample) -> None:
        done = samples.put(sample.prompt * params.n + sample.sample, asked[sample.prompt].row, sample)
        progress(done, len(sample.response_ids))

    try:
        if samples.done < total:
            numbers = range(first, len(asked))
            generator.generate(chosen.model, ids[first:], params, numbers=numbers, progress=finished)
    finally:
        progress.close()
        samples.close()
    click.echo(f"{out}: {total} samples of {len(asked)} prompts")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A model to sample from, and how."""

    model: Any
    tokenizer: Tokenizer
    config: Any
    """The run's, or None for a folder that is no run."""
    params: SamplingParams
    facts: dict[str, Any]
    """What tells its weights from others."""
    encode: Callable[[Any], list[int]]
    """A prompt, text or messages, laid out as the model was trained."""


def open_model(source: str, options: dict[str, Any]) -> Chosen:
    """Load what the command line names, with the run's own `generation` section where nothing else is said."""
    from ostinato.distributed.strategy import choose_device
    from ostinato.generation.sampler import SamplingParams
    from ostinato.training.weights import find_weights, from_run, load_run_model

    folder = find_folder(source, Path(options["root"]))
    config = frozen_config(folder)
    is_run = (folder / "checkpoints").is_dir()
    origin = from_run(folder, options["step"]) if is_run else find_weights(str(folder), folder.parent)
    step = origin.lineage["step"] if is_run else options["step"]
    model, tokenizer = load_run_model(folder, step, str(choose_device(options["device"])))
    base = SamplingParams.of(config.generation, seed=options["seed"]) if config else SamplingParams()
    names = ("n", "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "logprobs")
    said = {name: options[name] for name in names if options.get(name) is not None}
    params = dataclasses.replace(base, **said, **({"stop": options["stop"]} if options["stop"] else {}))
    encode = prompt_encoder(config, tokenizer, options.get("plain", False))
    return Chosen(model, tokenizer, config, params, {"folder": str(folder), **origin.lineage}, encode)


def find_folder(source: str, root: Path) -> Path:
    """A folder as it is, else a run of that name; UserError with the nearest names."""
    if Path(source).is_dir():
        return Path(source)
    from ostinato.experiment.finding import find_run

    return find_run(source, root)


def frozen_config(folder: Path) -> Any:
    """The run's config; None for a folder that is no run."""
    from ostinato.core.config import load_config

    return load_config(folder / "config.yaml") if (folder / "config.yaml").is_file() else None


def prompt_encoder(config: Any, tokenizer: Tokenizer, plain: bool) -> Callable[[Any], list[int]]:
    """How the run's algorithm lays out a text, and its chat template messages; without a run, the template both."""
    from ostinato.core.errors import UserError
    from ostinato.core.registry import ALGORITHMS
    from ostinato.data.encoding import RowEncoder
    from ostinato.data.formats import DataOptions

    of_messages = of_text = RowEncoder(tokenizer).prompt
    if config is not None:
        options = DataOptions(tokenizer=tokenizer, sequence_length=config.data.sequence_length, cache=Path())
        of_text = ALGORITHMS.get(config.algorithm.name).sample_format(options).encode_prompt

    def encode(prompt: Any) -> list[int]:
        if plain and not isinstance(prompt, str):
            raise UserError("messages have no plain form. Leave --plain out.")
        if plain:
            return tokenizer.encode(prompt)
        return of_text(prompt) if isinstance(prompt, str) else of_messages(prompt)

    return encode
