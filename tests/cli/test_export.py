"""`ostinato export` and `ostinato import`, end to end on tiny trained runs; transformers is the oracle."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ostinato.cli.main import exit_code_of

TEXT = """
experiment: {{name: {name}, output_root: {root}/experiments}}
algorithm: {{name: {algorithm}}}
model: {{name: transformer, width: 32, layers: 2, heads: 4, kv_heads: 2, init_std: 0.2}}
tokenizer: {{name: byte}}
data:
  train: {{name: jsonl, path: {root}/{data}}}
  validation: {{name: jsonl, path: {root}/{data}}}
  sequence_length: 96
training: {{total_steps: 2, batch_size: 4, learning_rate: 0.01, numerics: deterministic, device: cpu, threads: 1}}
generation: {{temperature: 0.7, top_p: 0.9}}
logging: {{trackers: {{}}, save_interval: 1}}
"""
ADAPTED = "{init_from: run:talk@1, adapter: {name: lora, rank: 4, alpha: 64.0, targets: [q_proj, down_proj]}}"
TALK = [{"role": "user", "content": "1+2="}, {"role": "assistant", "content": "3"}]


def ostinato(*arguments, code=0):
    """The command line, in this process: what it prints, or says of a mistake."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        found = exit_code_of([str(argument) for argument in arguments])
    assert found == code, out.getvalue() + err.getvalue()
    return err.getvalue() if code else out.getvalue()


def train(folder, *arguments):
    """`ostinato train`, in a process of its own."""
    command = [sys.executable, "-m", "ostinato", "train", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Runs `talk` (sft, two checkpoints) and `judge` (a reward model), both exported; where the tests work."""
    folder = tmp_path_factory.mktemp("lab")
    sums = [(a, b) for a in range(4) for b in range(4)]
    talk = [{"prompt": f"{a}+{b}=", "response": str(a + b)} for a, b in sums]
    pairs = [{"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": "many"} for a, b in sums]
    for name, rows in (("talk", talk), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, algorithm, data in (("talk", "sft", "talk.jsonl"), ("judge", "reward_model", "pairs.jsonl")):
        (folder / f"{name}.yaml").write_text(TEXT.format(name=name, root=folder, algorithm=algorithm, data=data))
    tuned = (folder / "talk.yaml").read_text().replace("name: talk", "name: tuned")
    (folder / "tuned.yaml").write_text(re.sub("model: .*", f"model: {ADAPTED}", tuned))
    train(folder, "talk.yaml", "judge.yaml", "tuned.yaml")
    with chdir(folder):
        ostinato("export", "talk", "--to", "out/talk")
        ostinato("export", "judge", "--to", "out/judge")
    return folder


@pytest.fixture(autouse=True)
def here(lab, monkeypatch):
    monkeypatch.chdir(lab)


def weights(folder):
    """All tensors of a folder."""
    return {
        name: tensor for path in sorted(Path(folder).glob("*.safetensors")) for name, tensor in load_file(path).items()
    }


def same(first, second):
    """Whether two maps of tensors have the same bytes."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and torch.equal(first[name].view(torch.uint8), second[name].view(torch.uint8))
        for name in first
    )


def in_transformers(folder, kind="CausalLM"):
    import transformers

    return getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder).eval()


def ours(run):
    from ostinato.training.weights import from_run

    return from_run(Path("experiments") / run, None).build("cpu")


def test_transformers_computes_the_same(lab):
    model = in_transformers("out/talk")
    assert type(model).__name__ == "LlamaForCausalLM" and model.dtype == torch.float32
    stored = weights("experiments/talk/checkpoints/step_00000002/model")
    assert same(stored, weights("out/talk")) and same(stored, dict(model.state_dict()))
    tokens = torch.randint(0, 256, (3, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (ours("talk")(tokens) - model(tokens).logits).abs().max() < 1e-5


def test_tokenizer_and_chat_template(lab):
    from transformers import AutoTokenizer

    from ostinato.data.encoding import RowEncoder
    from ostinato.data.tokenizer import Tokenizer

    theirs = AutoTokenizer.from_pretrained("out/talk")
    own = Tokenizer.load(Path("experiments/talk/checkpoints/step_00000002/model"))
    for text in ("", "Gödel, Escher\n\tBach", "a<|im_end|>b", "\U0001f600 \u202e x"):
        assert theirs(text, add_special_tokens=False)["input_ids"] == own.encode(text)
    assert sorted(path.name for path in Path("out/talk").iterdir()) == [
        *("README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    asked = theirs.apply_chat_template(TALK[:1], add_generation_prompt=True)["input_ids"]
    assert asked == RowEncoder(own).prompt(TALK[:1])
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (own.eos_id, own.pad_id, None)
    assert Tokenizer.load(Path("out/talk")).fingerprint == own.fingerprint


def test_generation_ends_where_the_run_ended(lab):
    model = in_transformers("out/talk")
    found = json.loads(Path("out/talk/generation_config.json").read_text())
    assert found == {
        **{"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 0.9},
        **{"eos_token_id": [256, 258], "pad_token_id": 256},
    }
    assert model.generation_config.eos_token_id == [256, 258] and model.config.eos_token_id == [256, 258]
    asked = torch.tensor([[10, 20, 30]])
    drawn = model.generate(asked, do_sample=False, max_new_tokens=20)[0, 3:].tolist()
    said = json.loads(
        ostinato(
            "generate",
            "talk",
            "--prompt",
            "\n\x14\x1e",
            "--plain",
            "--temperature",
            0,
            "--json",
            "--ids",
            "--max-new-tokens",
            20,
        )
    )
    assert drawn == said[0]["response_ids"]


def test_the_card(lab):
    card = Path("out/talk/README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["ostinato", "sft"],
    }
    record = json.loads(Path("experiments/talk/metadata.json").read_text())
    for text in (record["hashes"]["full"], record["data"]["sources"][0]["fingerprint"], "talk @2", "validation/loss"):
        assert text in card
    assert str(lab) not in card  # where it lay on somebody's disk is nobody's business


def test_scores(lab):
    """Padded on either side, transformers picks the last token, which is one that ends a turn."""
    from transformers import AutoTokenizer

    model, tokenizer = (
        in_transformers("out/judge", "SequenceClassification"),
        AutoTokenizer.from_pretrained("out/judge"),
    )
    assert type(model).__name__ == "LlamaForSequenceClassification" and model.config.num_labels == 1
    rows = [tokenizer.apply_chat_template(talk)["input_ids"][:-1] for talk in (TALK, [*TALK, *TALK])]
    assert rows[0][-1] == 258 and len(rows[1]) > len(rows[0])
    with torch.no_grad():
        wanted = torch.stack([ours("judge")(torch.tensor([row]))[0, -1] for row in rows])
        for side in ("right", "left"):
            tokenizer.padding_side = side
            found = model(**tokenizer.pad({"input_ids": rows}, return_tensors="pt")).logits[:, 0]
            assert (found - wanted).abs().max() < 1e-5
    assert tokenizer.pad_token_id == model.config.pad_token_id == 257
    stored = weights("experiments/judge/checkpoints/step_00000002/model")
    config = json.loads(Path("out/judge/config.json").read_text())
    for name in ("reward_mean", "reward_std"):
        assert config[name] == stored.pop(name).item() != 0
    assert same(stored, weights("out/judge"))
    assert "text-classification" in Path("out/judge/README.md").read_text()


def test_adapters(lab):
    """Alone for peft, on the base that the run began from; merged, a model like any other."""
    from peft import AutoPeftModelForCausalLM, PeftModel

    said = ostinato("export", "tuned", "--to", "out/adapter")
    assert "these are the weights of an adapter alone" in said
    ostinato("export", "tuned", "--to", "out/merged", "--merge")
    ostinato("export", "talk", "--to", "out/base", "--step", 1)
    assert {path.name for path in Path("out/adapter").iterdir()} == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors"),
        *("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"),
    }
    assert yaml.safe_load(Path("out/adapter/README.md").read_text().split("---\n")[1])["library_name"] == "peft"
    tokens = torch.randint(0, 256, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, base = ours("tuned")(tokens), in_transformers("out/base")
        assert (base(tokens).logits - wanted).abs().max() > 1e-2  # it has learnt something
        for model in (
            AutoPeftModelForCausalLM.from_pretrained("out/adapter"),
            PeftModel.from_pretrained(base, "out/adapter"),
            in_transformers("out/merged"),
        ):
            assert (model.eval()(tokens).logits - wanted).abs().max() < 1e-5
    merged, theirs = weights("out/merged"), PeftModel.from_pretrained(in_transformers("out/base"), "out/adapter")
    for name, tensor in theirs.merge_and_unload().state_dict().items():
        assert (merged[name] - tensor).abs().max() < 1e-6, name
    assert "began from talk @1" in Path("out/merged/README.md").read_text()
    assert "has no adapter" in ostinato("export", "talk", "--to", "out/never", "--merge", code=2)
    ostinato("import", "run:tuned", "--name", "merged")
    assert same(weights("experiments/merged/checkpoints/step_00000000/model"), merged)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "phi3"])
def test_fine_tuned_from_a_foreign_folder(lab, family):
    """From a folder that transformers wrote to one that it reads: with an adapter, whose base is that very folder."""
    from peft import AutoPeftModelForCausalLM

    from ostinato.data.tokenizer_kinds import byte
    from tests.models.family_shapes import theirs

    name, source = f"tuned-{family}", lab / f"source-{family}"
    theirs(family).save_pretrained(source)
    byte().save(source)
    text = TEXT.format(name=name, root=lab, algorithm="sft", data="talk.jsonl")
    model = f"model: {{init_from: {source}, adapter: {{name: lora, rank: 4, targets: [q_proj, o_proj, up_proj]}}}}"
    (lab / f"{name}.yaml").write_text(re.sub("model: .*", model, text))
    train(lab, f"{name}.yaml", "-o", "data.sequence_length=64")
    ostinato("export", name, "--to", f"out/{name}", "--merge")
    models = [in_transformers(f"out/{name}")]
    if family == "phi3":  # peft would have to adapt query, key and value as one
        assert "has other projections" in ostinato("export", name, "--to", "out/never", code=2)
    else:
        ostinato("export", name, "--to", f"out/{name}-adapter")
        models.append(AutoPeftModelForCausalLM.from_pretrained(f"out/{name}-adapter").eval())
    tokens = torch.randint(0, 256, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = ours(name)(tokens)
        assert (in_transformers(source)(tokens).logits - wanted).abs().max() > 1e-3
        for one in models:
            assert (one(tokens).logits - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("run", ["talk", "judge"])
def test_there_and_back(lab, run):
    ostinato("import", f"experiments/{run}", "--name", f"{run}-again")
    ostinato("export", f"{run}-again", "--to", f"back/{run}")
    again = f"experiments/{run}-again/checkpoints/step_00000000/model"
    assert same(weights(again), weights(f"experiments/{run}/checkpoints/step_00000002/model"))
    assert same(weights(f"back/{run}"), weights(f"out/{run}"))
    assert Path(f"back/{run}/config.json").read_bytes() == Path(f"out/{run}/config.json").read_bytes()


def test_an_imported_model_is_known_to_every_verb(lab):
    ostinato("import", "run:talk@1", "--name", "brought")
    assert re.search(r"^brought +completed +0/0 +imported ", ostinato("runs", "list"), re.M)
    shown = ostinato("runs", "show", "brought")
    assert "imported from run:talk@1, hash " in shown and "it was imported, not trained here" in shown
    assert ostinato("runs", "verify", "brought") == "brought  intact\n"
    assert ostinato("checkpoint", "verify", "brought@0") == "brought  step_00000000  intact\n"
    assert ostinato("generate", "brought", "--prompt", "1+1=", "--max-new-tokens", 3)
    assert "0 problem" in ostinato("doctor", "--root", "experiments")
    for verb in ("lineage", "report"):
        ostinato("runs", verb, "brought")
    ostinato("runs", "diff", "talk", "brought")
    more = ["model.name=null", "model.init_from=run:brought", "experiment.name=further"]
    train(lab, "talk.yaml", *(word for option in more for word in ("-o", option)))
    assert "brought @0 -> *further" in ostinato("runs", "lineage", "further")
    ostinato("export", "further", "--to", "out/further", "--force")
    assert "began from brought @0, imported from run:talk@1" in Path("out/further/README.md").read_text()
    assert ostinato("import", "run:talk", "--name", "brought", code=2) == (
        "experiments/brought exists. Choose another name: --name NAME.\n"
    )


def test_shards(lab):
    ostinato("export", "talk", "--to", "out/shards", "--max-shard-size", "20KB")
    index = json.loads(Path("out/shards/model.safetensors.index.json").read_text())
    files = sorted(Path("out/shards").glob("*.safetensors"))
    assert len(files) > 3 and {path.name for path in files} == set(index["weight_map"].values())
    for path in files:
        held = load_file(path)
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= 20_000
        assert {index["weight_map"][name] for name in held} == {path.name}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in weights("out/talk").values())
    assert same(weights("out/shards"), weights("out/talk"))
    assert same(dict(in_transformers("out/shards").state_dict()), weights("out/talk"))


def test_bfloat16(lab):
    ostinato("export", "talk", "--to", "out/half", "--dtype", "bfloat16", "--step", 1)
    before = weights("experiments/talk/checkpoints/step_00000001/model")
    assert same(weights("out/half"), {name: tensor.bfloat16() for name, tensor in before.items()})
    assert in_transformers("out/half").dtype == torch.bfloat16
    assert "step 1" in Path("out/half/README.md").read_text()


def test_names_of_any_script(lab):
    said = json.loads(ostinato("export", "talk", "--to", "aus/模型 «é»: #1", "--json"))
    assert said["class"] == "LlamaForCausalLM" and said["parameters"] == sum(
        t.numel() for t in weights("out/talk").values()
    )
    assert same(weights("aus/模型 «é»: #1"), weights("out/talk"))
    assert "模型" in Path("aus/模型 «é»: #1/README.md").read_text("utf-8")


def test_nothing_is_overwritten(lab):
    target = Path("out/kept")
    ostinato("export", "talk", "--to", target)
    assert "is not empty" in ostinato("export", "talk", "--to", target, code=2)
    (target / "stale.txt").write_text("x")
    ostinato("export", "talk", "--to", target, "--force", "--step", 1)
    assert not (target / "stale.txt").exists() and "step 1" in (target / "README.md").read_text()
    for other in ("experiments", "experiments/talk", "experiments/talk/checkpoints/step_00000002/model"):
        before = sorted(Path(other).rglob("*"))
        assert "is no exported model" in ostinato("export", "talk", "--to", other, "--force", code=2)
        assert sorted(Path(other).rglob("*")) == before
    assert "is no folder" in ostinato("export", "talk", "--to", "talk.yaml", "--force", code=2)
    assert [path.name for path in Path("out").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tolk"], "Did you mean talk?"),
        (["talk", "--step", 7], "there are: 1, 2"),
        (["run:talk@last"], "the step is a number"),
        (["empty"], "empty has no checkpoint yet"),
        (["out/talk", "--step", 1], "it has no steps"),
        (["talk", "--max-shard-size", "5 potatoes"], "Write 5GB, 500MB or 1GiB"),
        (["talk", "--max-shard-size", "0"], "is no size"),
    ],
)
def test_mistakes(lab, arguments, message):
    if arguments == ["empty"]:
        shutil.copytree(
            "experiments/talk", "experiments/empty", ignore=shutil.ignore_patterns("step_*"), dirs_exist_ok=True
        )
    assert message in ostinato("export", *arguments, "--to", "out/never", code=2)
    assert not Path("out/never").exists()
    shutil.rmtree("experiments/empty", ignore_errors=True)


def test_damaged_weights_are_refused(lab):
    shutil.copytree("experiments/talk", "experiments/damaged", dirs_exist_ok=True)
    path = Path("experiments/damaged/checkpoints/step_00000002/model/model.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "does not match its hash" in ostinato("export", "damaged", "--to", "out/never", code=3)
    assert "does not match its hash" in ostinato("import", "run:damaged@2", "--name", "never", code=3)
    shutil.rmtree("experiments/damaged")
    assert not Path("out/never").exists() and not Path("experiments/never").exists()


def test_killed_while_it_writes(lab):
    """kill -9 between the weights and the card: nothing bears the name; the next export clears up and is whole."""
    script = (
        "import os, sys\nfrom ostinato.training import export\n"
        "def dying(*_): os.kill(os.getpid(), 9)\n"
        "export.write_weights = dying\nfrom ostinato.cli.main import main\nmain(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", script, "export", "talk", "--to", "out/killed", "--force"]
    assert subprocess.run(command, cwd=lab).returncode == -signal.SIGKILL
    assert not Path("out/killed").exists() and len(list(Path("out").glob(".killed.*"))) == 1
    ostinato("export", "talk", "--to", "out/killed")
    assert list(Path("out").glob(".killed.*")) == [] and same(weights("out/killed"), weights("out/talk"))


def test_a_full_disk(lab):
    """A file limit stands in for the disk: the write fails in the middle, and nothing is left."""
    script = (
        "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from ostinato.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\nmain(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", script, "export", "talk", "--to", "out/full"]
    done = subprocess.run(
        command, cwd=lab, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 1 and "out/full cannot be written: File too large" in done.stderr
    assert list(Path("out").glob("*full*")) == []
