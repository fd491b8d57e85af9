"""`ostinato checkpoint`: on checkpoints written as training writes them, read without torch."""

import json
import subprocess
import sys

import pytest
import torch

from ostinato.training.checkpoint import Snapshot, write_checkpoint
from tests.experiment.making import start_run

FORMATS = (torch.float32, torch.bfloat16, torch.float16, torch.int64)


def checkpoint(*arguments):
    """The command line in a fresh process that must not import torch."""
    code = (
        "import sys\nfrom ostinato.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, "checkpoint", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def save(run, step, **changed):
    """A checkpoint with a weight 0, 1, 2, 3 of each kind of number, and some moments."""
    tensors = {f"model/{str(kind)[6:]}": torch.arange(4).to(kind) for kind in FORMATS}
    tensors |= {"optimizer/m": torch.zeros(2, 3), "algorithm/flag": torch.tensor([True, False])}
    tensors |= {name.replace("__", "/"): tensor for name, tensor in changed.items()}
    facts = {"run": {"id": run.id, "name": run.name}}
    snapshot = Snapshot(step, {k: v for k, v in tensors.items() if v is not None}, {"config.json": b"{}"}, {}, facts)
    return write_checkpoint(run.folder / "checkpoints", snapshot, lambda: None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    run, other, empty = (start_run(folder, name=name) for name in ("exp001", "other", "empty"))
    save(run, 100)
    save(run, 200, model__bfloat16=torch.tensor([0, 1, 2, 3.5]).bfloat16(), optimizer__m=torch.ones(2, 3))
    save(
        other,
        100,
        model__float32=torch.tensor([0, float("nan"), 2, 4]),
        model__int64=None,
        model__float16=torch.ones(1).half(),
    )
    (run.folder / "checkpoints" / "pins").mkdir()
    for child, step in ((other.id, 100), ("20260101T000000Z-gone", 300)):
        (run.folder / "checkpoints" / "pins" / f"{child}-step_{step:08d}.json").write_text("{}")
    for one in (run, other, empty):
        one.finish("completed")
    return folder / "experiments"


def test_list(root):
    done = checkpoint("ls", "exp001", "--root", root)
    header, first, second, lost = done.stdout.splitlines()
    assert header.split() == ["checkpoint", "size", "saved", "pinned", "by", "problem"]
    assert first.split()[:3] == ["step_00000100", "0.0", "MiB"]
    assert first.endswith("other")
    assert lost.split(maxsplit=1) == ["step_00000300", "20260101T000000Z-gone (not here)  pinned, and missing"]
    found = json.loads(checkpoint("ls", "exp001@200", "--root", root, "--json").stdout)
    (entry,) = found["checkpoints"]
    assert (entry["step"], entry["pinned_by"], entry["problem"]) == (200, [], None)
    assert checkpoint("ls", "empty", "--root", root).stdout == "empty has no checkpoint yet\n"


def test_the_largest_difference_of_each_tensor(root):
    """0, 1, 2, 3 against 0, 1, 2, 3.5; six zeros against ones."""
    found = json.loads(checkpoint("diff", "exp001@100", "exp001", "--root", root, "--json").stdout)
    assert (found["first"], found["second"], found["equal"], found["tensors"]) == ("exp001@100", "exp001@200", False, 6)
    bfloat16, moments = found["differences"]
    assert bfloat16 == {"name": "model/bfloat16", "problem": "differs", "largest": 0.5, "elements": 1, "of": 4}
    assert moments == {"name": "optimizer/m", "problem": "differs", "largest": 1.0, "elements": 6, "of": 6}


def test_what_cannot_be_subtracted(root):
    found = json.loads(checkpoint("diff", "exp001@100", "other@100", "--root", root, "--json").stdout)
    told = {one["name"]: (one["problem"], one["largest"], one["elements"]) for one in found["differences"]}
    assert told == {
        "model/float16": ("F16 [4] against F16 [1]", None, None),
        "model/float32": ("differs", "nan", 2),
        "model/int64": ("only in the first", None, None),
    }
    text = checkpoint("diff", "exp001@100", "other@100", "--root", root).stdout.splitlines()
    assert text[0] == "exp001@100 and other@100: 3 tensors differ"
    same = checkpoint("diff", root / "exp001", root / "exp001")
    assert same.stdout == "exp001@200 and exp001@200: all 6 tensors are the same, bit for bit\n"


def test_verify(root, tmp_path):
    assert checkpoint("verify", "exp001", "other@100", "--root", root).stdout.splitlines() == [
        "exp001  step_00000100  intact",
        "exp001  step_00000200  intact",
        "other  step_00000100  intact",
    ]
    run = start_run(tmp_path, name="victim")
    path = next((save(run, 7) / "model").glob("*.safetensors"))
    run.finish("completed")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = checkpoint("verify", run.folder, "--json")
    assert done.returncode == 3
    (found,) = json.loads(done.stdout)["checkpoints"]
    assert (found["intact"], found["problem"]) == (False, "model/model.safetensors does not match its hash")
    done = checkpoint("verify", f"{run.folder}@7")
    assert (done.returncode, done.stderr) == (3, "damaged: victim step_00000007\n")
    path.write_bytes(data[:20])
    (run.folder / "checkpoints" / "step_00000007" / "model" / "config.json").unlink()
    assert checkpoint("diff", run.folder, root / "exp001").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls", "exp01"], "Did you mean exp001?"),
        (["ls", "exp001@7"], "exp001 has no checkpoint of step 7; there are: 100, 200."),
        (["verify", "exp001@last"], "exp001 has no checkpoint of step last"),
        (["diff", "empty", "exp001"], "empty has no checkpoint yet"),
    ],
)
def test_mistakes_exit_2(root, arguments, message):
    done = checkpoint(*arguments, "--root", root)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
