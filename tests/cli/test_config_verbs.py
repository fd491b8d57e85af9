"""The verbs in real processes: exit codes, JSON, what they import, how fast they are."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HEADER = "# yaml-language-server: $schema="
# Runs a command line and says what was imported, at the end of stderr.
PROBE = """
import sys
from ostinato.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("IMPORTED", *sorted(sys.modules), file=sys.stderr)
"""
NO_TORCH = "import sys; sys.modules['torch'] = None\n"


def ostinato(*arguments: str, cwd: Path, code: str = PROBE) -> subprocess.CompletedProcess[str]:
    """The command line in a fresh process."""
    environ = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environ, timeout=60)


def messages(run: subprocess.CompletedProcess[str]) -> str:
    """What a person sees on stderr."""
    assert "Traceback" not in run.stderr
    return run.stderr.split("IMPORTED")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two configs and a plugin that needs torch."""
    (tmp_path / "b.yaml").write_text("training: {learning_rate: 3e-4, total_steps: 10}\nexperiment: {tags: [a, b]}\n")
    (tmp_path / "c.yaml").write_text("_base_: b.yaml\noptimizer: {name: sgd}\ntraining: {total_steps: 12}\n")
    (tmp_path / "bad.yaml").write_text("_base_: [b.yaml, x.yaml]\ntraining: {lr: 1}\noptimizer: {name: adamv}\n")
    (tmp_path / "x.yaml").write_text("experiment:\n  seed: x\ndata: {packing: yes}\n")
    (tmp_path / "lab.py").write_text(
        'import torch\nfrom ostinato.core.registry import REWARDS\n\n\n@REWARDS.register("torchy")\n'
        'def torchy(*, weight_of: float = 1.0):\n    """Needs torch."""\n'
    )
    (tmp_path / "torchy.yaml").write_text("plugins: [lab]\nrewards: {torchy: {}}\n")
    return tmp_path


STATIC = [
    ("config", "show", "c.yaml"),
    ("config", "show", "torchy.yaml"),
    ("config", "explain", "c.yaml", "training"),
    ("config", "diff", "b.yaml", "c.yaml"),
    ("config", "hash", "c.yaml"),
    ("config", "schema", "torchy.yaml"),
    ("components",),
    ("explain", "adamw"),
    ("--help",),
]


@pytest.mark.parametrize("arguments", STATIC, ids=" ".join)
def test_static_verbs_import_neither_torch_nor_components(folder, arguments):
    run = ostinato(*arguments, cwd=folder)
    assert run.returncode == 0, run.stderr
    imported = run.stderr.split("IMPORTED")[1].split()
    heavy = {"torch", "numpy", "transformers", "tokenizers", "tensorboard", "lab"} & set(imported)
    ours = {name for name in imported if name.startswith("ostinato.") and name.split(".")[1] not in ("core", "cli")}
    assert not heavy and not ours
    assert ostinato(*arguments, cwd=folder).stdout == run.stdout
    without = ostinato(*arguments, cwd=folder, code=NO_TORCH + PROBE)
    assert (without.returncode, without.stdout) == (0, run.stdout)


def test_mistakes_go_to_stderr_with_exit_code_2(folder):
    for verb in (["show"], ["check"], ["hash"], ["explain"], ["diff"], ["schema"]):
        extra = {"explain": ["training"], "diff": ["b.yaml"]}.get(verb[0], [])
        run = ostinato("config", *verb, "bad.yaml", *extra, cwd=folder)
        assert (run.returncode, run.stdout) == (2, "")
        lines = messages(run).strip().split("\n")
        starts = ["x.yaml:2:9  experiment.seed: ", "x.yaml:3:17  data.packing: ", "bad.yaml:2:12  training.lr: "]
        assert [line for line, start in zip(lines, starts, strict=False) if not line.startswith(start)] == []
        assert lines[-1].endswith("mistakes; nothing was run.")


def test_mistakes_as_json(folder):
    run = ostinato("config", "show", "bad.yaml", "--json", "-o", "training.total_steps=abc", cwd=folder)
    assert run.returncode == 2
    found = json.loads(run.stdout)
    assert [(m["file"], m["line"], m["column"], m["key"]) for m in found] == [
        ("x.yaml", 2, 9, "experiment.seed"),
        ("x.yaml", 3, 17, "data.packing"),
        ("bad.yaml", 2, 12, "training.lr"),
        ("bad.yaml", 3, 19, "optimizer.name"),
        (None, 1, None, "training.total_steps"),
    ]
    assert found[-1]["message"].startswith("expected int, got str 'abc'")
    run = ostinato("config", "show", "nowhere.yaml", "--json", cwd=folder)
    assert [m["file"] for m in json.loads(run.stdout)] == [None]


def test_show(folder):
    text = ostinato("config", "show", "c.yaml", cwd=folder).stdout
    (folder / "frozen.yaml").write_text(text)
    assert ostinato("config", "show", "frozen.yaml", cwd=folder).stdout == text
    plain = json.loads(ostinato("config", "show", "c.yaml", "--json", cwd=folder).stdout)
    assert "_hash_" not in plain and plain == {k: v for k, v in _read(text).items() if k != "_hash_"}
    hashes = json.loads(ostinato("config", "hash", "c.yaml", "--json", cwd=folder).stdout)
    assert text.startswith(f"_hash_: {hashes['full']}\n")
    assert ostinato("config", "hash", "frozen.yaml", cwd=folder).stdout == (
        f"full {hashes['full']}\nscience {hashes['science']}\n"
    )


def _read(text: str) -> dict:
    loader = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})
    from ostinato.core.scalars import read_plain

    def scalar(loader, node):
        return node.value if node.style else read_plain(node.value)

    loader.add_constructor("tag:yaml.org,2002:str", scalar)
    return yaml.load(text, loader)


def test_explain(folder):
    run = ostinato(
        "config", "explain", "c.yaml", "training.total_steps", "-o", "training.total_steps=3", "--json", cwd=folder
    )
    assert [(s["value"], s["file"], s["line"], s["kind"]) for s in json.loads(run.stdout)][1:] == [
        (10, "b.yaml", 1, "file"),
        (12, "c.yaml", 3, "file"),
        (3, None, 1, "cli"),
    ]
    text = ostinato("config", "explain", "c.yaml", "training.total_steps", cwd=folder).stdout
    assert "c.yaml:3" in text.split("\n")[3]
    section = json.loads(ostinato("config", "explain", "c.yaml", "optimizer", "--json", cwd=folder).stdout)
    assert section["optimizer.name"][-1]["value"] == "sgd"
    run = ostinato("config", "explain", "c.yaml", "training.total_stepz", cwd=folder)
    assert run.returncode == 2 and "Did you mean training.total_steps?" in messages(run)


def test_diff(folder):
    rows = json.loads(ostinato("config", "diff", "b.yaml", "c.yaml", "--json", cwd=folder).stdout)
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    row = next(row for row in rows if row["key"] == "training.total_steps")
    assert row == {
        "key": "training.total_steps", "a": 10, "b": 12,
        "a_file": "b.yaml", "a_line": 1, "b_file": "c.yaml", "b_line": 3,
    }  # fmt: skip
    lacking = next(row for row in rows if row["key"] == "optimizer.betas")
    assert "b" not in lacking and "b_file" not in lacking
    assert ostinato("config", "diff", "b.yaml", "b.yaml", cwd=folder).stdout == ""


def test_check(folder):
    data = "data: {train: {name: jsonl, path: x.jsonl}}\n"
    ready = "_base_: ostinato:algorithms/sft.yaml\nmodel: {name: transformer}\n"
    (folder / "ready.yaml").write_text(ready + data)
    run = ostinato("config", "check", "ready.yaml", "--json", cwd=folder)
    assert (run.returncode, json.loads(run.stdout)) == (0, [])
    run = ostinato("config", "check", "c.yaml", "ready.yaml", "--json", cwd=folder)
    assert run.returncode == 2
    assert {m["key"] for m in json.loads(run.stdout)} == {"algorithm.name", "model.name"}


def test_without_torch_check_names_the_component_and_show_works(folder):
    text = "plugins: [lab]\nrewards: {torchy: {}}\n"
    (folder / "torchy.yaml").write_text(text)
    (folder / "lab.py").rename(folder / "inner.py")
    (folder / "lab").mkdir()
    (folder / "inner.py").rename(folder / "lab" / "torchy.py")
    (folder / "lab" / "__init__.py").write_text("")
    run = ostinato("config", "check", "torchy.yaml", "--json", cwd=folder, code=NO_TORCH + PROBE)
    found = [m for m in json.loads(run.stdout) if m["key"] not in ("algorithm.name", "model.name")]
    assert run.returncode == 2 and len(found) == 1
    assert "'torchy' of plugin lab (lab/torchy.py:5)" in found[0]["message"]
    assert "torch" in found[0]["message"] and "(lab/torchy.py:1)" in found[0]["message"]
    assert ostinato("config", "show", "torchy.yaml", cwd=folder, code=NO_TORCH + PROBE).returncode == 0


def test_components_and_explain(folder):
    rows = json.loads(ostinato("components", "optimizers", "--json", cwd=folder).stdout)
    assert {"adamw", "sgd"} <= {row["name"] for row in rows} and {row["kind"] for row in rows} == {"optimizers"}
    (found,) = json.loads(ostinato("explain", "optimizers.adamw", "--json", cwd=folder).stdout)
    lines = (ROOT / "src" / found["file"]).read_text().split("\n")
    assert 'register("adamw")' in lines[found["line"] - 1]
    (option,) = [option for option in found["options"] if option["name"] == "betas"]
    assert (option["type"], option["required"], len(option["default"])) == ("tuple[float, float]", False, 2)
    run = ostinato("explain", "adamv", cwd=folder)
    assert run.returncode == 2 and "Did you mean adamw?" in messages(run)
    run = ostinato("components", "optimiser", cwd=folder)
    assert run.returncode == 2 and "Did you mean optimizers?" in messages(run)


def schema(folder: Path) -> jsonschema.Draft202012Validator:
    """The validator of the schema that `config schema` prints."""
    value = json.loads(ostinato("config", "schema", cwd=folder).stdout)
    jsonschema.Draft202012Validator.check_schema(value)
    return jsonschema.Draft202012Validator(value)


def test_every_shipped_config_validates_and_says_its_schema(folder):
    validator = schema(folder)
    configs = sorted((ROOT / "configs").rglob("*.yaml"))
    assert configs
    for path in configs:
        assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == [], path
        first = path.read_text().split("\n")[0]
        assert first.startswith(HEADER) and (path.parent / first.removeprefix(HEADER)).resolve().exists(), path


def test_the_schema_allows_what_a_file_may_say_and_no_more(folder):
    validator = schema(folder)
    good = """
_base_: [a.yaml, "ostinato:base/training.yaml"]
experiment: {tags+: [a], ~notes: , seed: "${SEED:3}", extra: {anything: [1, {a: b}]}}
optimizer!: {name: sgd, momentum: 0.9}
scheduler: {_delete_: true, name: cosine, min_ratio!: 0.1}
training: {learning_rate: 1e-5, total_steps: 1e3, max_steps: 5, micro_batch_size: null}
~rewards:
logging: {trackers: {tensorboard: {}, ~other: }}
data: {validation: "${ref:data.train}", train: {name: jsonl, path: x}}
model: {name: transformer, adapter: null}
"""
    assert list(validator.iter_errors(yaml.safe_load(good))) == []
    bad = [
        "training: {learning_rte: 1}",
        "trainng: {}",
        "training: {total_steps: true}",
        "optimizer: {name: sgd, betas: [0.9, 0.95]}",
        "optimizer: {name: adamv}",
        "experiment: {tags: a}",
        "data: {packing: 1}",
    ]
    assert [text for text in bad if not list(validator.iter_errors(yaml.safe_load(text)))] == []


def test_the_shipped_schema_is_up_to_date(folder):
    text = ostinato("config", "schema", cwd=folder).stdout
    stored = (ROOT / "configs" / "ostinato.schema.json").read_text()
    assert stored == text, "run: ostinato config schema > configs/ostinato.schema.json"


def test_shipped_configs_resolve(folder):
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        name = "ostinato:" + path.relative_to(ROOT / "configs").as_posix()
        run = ostinato("config", "hash", name, cwd=folder)
        assert run.returncode == 0, run.stderr


def seconds(arguments: tuple[str, ...], cwd: Path) -> float:
    """Processor seconds of the quickest of five runs, interpreter included (wall time on an idle machine)."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([Path(sys.executable).parent / "ostinato", *arguments], cwd=cwd, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_speed(folder):
    for level in range(4):  # 4 levels, 480 keys
        base = f"_base_: l{level - 1}.yaml\n" if level else ""
        keys = "".join(f"    k{level}_{i}: {{a: {i}, b: 'text {i}', c: [1, 2], d: 1e-{i % 9}}}\n" for i in range(30))
        text = f"{base}training: {{total_steps: {level + 1}}}\nexperiment:\n  extra:\n{keys}"
        (folder / f"l{level}.yaml").write_text(text)
    assert seconds(("config", "show", "l3.yaml"), folder) < 0.2
    assert seconds(("components",), folder) < 0.4  # reads every component there is
    assert seconds(("--help",), folder) < 0.15
