"""`ostinato generate`: text from a run's checkpoint or a model folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click


@click.command("generate")
@click.argument("source", metavar="RUN")
@click.option("--prompt", "prompts", multiple=True, help="What to continue (repeatable); none: the config's prompts.")
@click.option("--step", type=int, help="The checkpoint of this step; default: the newest good one.")
@click.option("--n", type=int, default=1, help="Samples per prompt.")
@click.option("--max-new-tokens", type=int)
@click.option("--temperature", type=float, help="0: greedy.")
@click.option("--top-k", type=int)
@click.option("--top-p", type=float)
@click.option("--min-p", type=float)
@click.option("--repetition-penalty", type=float)
@click.option("--stop", multiple=True, help="Stop at this text (repeatable).")
@click.option("--seed", type=int, default=0)
@click.option("--plain", is_flag=True, help="Do not put the prompt into the chat format it was trained on.")
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--root", default="experiments", help="The folder of the runs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def command(source: str, prompts: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Sample text. RUN is a run's name, its folder, or a folder with config.json and safetensors.

    What is not said comes from the run's own `generation` section.
    """
    folder = find_folder(source, Path(options["root"]))
    config = frozen_config(folder)
    from ostinato.distributed.strategy import choose_device
    from ostinato.generation.generator import Generator
    from ostinato.generation.sampler import SamplingParams
    from ostinato.training.weights import load_run_model

    model, tokenizer = load_run_model(folder, options["step"], str(choose_device(options["device"])))
    base = SamplingParams.of(config.generation, seed=options["seed"]) if config else SamplingParams()
    names = ("n", "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    said = {name: options[name] for name in names if options[name] is not None}
    params = dataclasses.replace(base, **said, **({"stop": options["stop"]} if options["stop"] else {}))
    texts = list(prompts) or (list(config.generation.prompts) if config else []) or [""]
    encode = tokenizer.encode if options["plain"] or config is None else prompt_encoder(config, tokenizer)
    samples = Generator(tokenizer).generate(model, [encode(text) for text in texts], params)
    if as_json:
        click.echo(json.dumps([{**vars(s), "prompt_text": texts[s.prompt]} for s in samples], ensure_ascii=False))
        return
    chat = encode(texts[0]) != tokenizer.encode(texts[0])
    for one in samples:
        click.echo(f"{'> ' if chat else ''}{texts[one.prompt]}{chr(10) if chat else ''}{one.text}")
        if len(samples) > 1:
            click.echo("---")


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


def prompt_encoder(config: Any, tokenizer: Any) -> Any:
    """How the run's algorithm lays out a prompt: plain text, or a user's turn in its chat format."""
    from ostinato.core.registry import ALGORITHMS
    from ostinato.data.formats import DataOptions

    options = DataOptions(tokenizer=tokenizer, sequence_length=config.data.sequence_length, cache=Path())
    form = ALGORITHMS.get(config.algorithm.name).sample_format(options)
    return form.encode_prompt
