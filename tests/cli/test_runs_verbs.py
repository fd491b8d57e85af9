"""`ostinato runs`: what is printed, as text and as JSON, and the exit codes."""

import json
import os
import subprocess
import sys

import pytest

from tests.experiment.making import python, start_run


def ostinato(*arguments):
    """The command line in a fresh process that must not import torch."""
    code = (
        "import sys\nfrom ostinato.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, "runs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two runs: one completed, one failed."""
    folder = tmp_path_factory.mktemp("runs")
    good = start_run(folder, name="good")
    for step in range(1, 4):
        good.status.step = step
        good.metrics.write({"step": step, "loss": 1.0 / step})
    good.metrics.write({"kind": "eval", "step": 3, "validation/loss": 0.5})
    good.finish("completed")
    bad = start_run(folder, name="bad")
    bad.metrics.write({"step": 1, "loss": float("nan")})
    bad.finish("failed", reason="not finite", exit_code=1)
    return folder / "experiments"


def test_list(root):
    done = ostinato("list", "--root", root, "--sort", "name")
    assert done.returncode == 0, done.stderr
    header, bad, good = done.stdout.splitlines()
    columns = ("name", "state", "step", "algorithm", "loss", "validation/loss", "age", "duration", "reason")
    assert tuple(header.split()) == columns
    assert bad.split()[:5] == ["bad", "failed", "1/10", "pretrain", "nan"]
    assert bad.endswith("not finite")
    assert good.split()[:6] == ["good", "completed", "3/10", "pretrain", "0.3333", "0.5000"]


def test_list_as_json_with_columns_of_every_kind(root):
    done = ostinato(
        "list", "--root", root, "--json", "--where", "state=completed", "--columns", "loss,training.batch_size"
    )
    assert json.loads(done.stdout) == [{"name": "good", "loss": 1 / 3, "training.batch_size": 32}]
    everything = json.loads(ostinato("list", "--root", root, "--json").stdout)
    assert {run["name"]: run["loss"] for run in everything} == {"good": 1 / 3, "bad": "nan"}
    assert json.loads(ostinato("list", "--root", root / "nowhere", "--json").stdout) == []


def test_a_wrong_condition_exits_2(root):
    done = ostinato("list", "--root", root, "--where", "loss")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'loss' is no condition" in done.stderr
    assert "Traceback" not in done.stderr


def test_show(root):
    done = ostinato("show", "good", "--root", root)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "good  completed  step 3/10"
    assert lines[-1].startswith("what would stop a reproduction: not captured: the code; no data fingerprints")
    assert len(lines) <= 24  # one screen
    facts = json.loads(ostinato("show", root / "good", "--json").stdout)
    assert facts["best"]["validation/loss"] == {"value": 0.5, "step": 3}
    assert facts["segments"][0]["pid"] == os.getpid()


def test_an_unknown_run_exits_2_with_the_nearest_name(root):
    done = ostinato("show", "goood", "--root", root)
    assert done.returncode == 2
    assert "Did you mean good?" in done.stderr


def test_verify(root, tmp_path):
    done = ostinato("verify", "--all", "--root", root)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["bad  intact", "good  intact"])
    victim = start_run(tmp_path, name="victim")
    victim.finish("completed")
    (victim.folder / "metadata.json").write_text("{")
    done = ostinato("verify", victim.folder, "--json")
    assert done.returncode == 3
    answer = json.loads(done.stdout)
    assert answer["intact"] is False
    assert answer["problems"][0]["path"] == "metadata.json"
    done = ostinato("verify", "victim", "--root", victim.folder.parent)
    assert done.returncode == 3
    assert done.stdout.splitlines()[0] == "victim  damaged"


def test_watch_follows_until_the_run_ends(tmp_path):
    run = start_run(tmp_path)
    run.metrics.write({"step": 1, "loss": 0.5})
    child = python("import sys; from ostinato.cli.main import main; main(sys.argv[1:])", "runs", "watch", run.folder)
    assert "loss 0.5000" in child.stdout.readline()
    run.metrics.write({"step": 2, "loss": 0.25})
    assert "loss 0.2500" in child.stdout.readline()
    run.finish("completed")
    assert child.communicate()[0].splitlines()[-1] == "exp001: completed"
    assert child.returncode == 0
