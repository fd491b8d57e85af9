"""`runs diff`: only what differs, where it comes from, and the first step at which it shows."""

import json

import pytest

from ostinato.experiment.run import Run
from tests.cli.test_runs_verbs import ostinato
from tests.experiment.making import config_of
from tests.experiment.test_provenance import run_git


def finished(folder, name, losses, *overrides):
    run = Run.create(config_of(folder, *overrides, name=name), command=["ostinato", "train", name])
    run.record(data={"identity": {"seed": 0, "sources": {"train": {"length": 3, "content": name}}}})
    run.start()
    for step, loss in enumerate(losses, start=1):
        run.metrics.write({"step": step, "loss": loss})
    run.finish("completed")
    return run.folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Runs a and b of one project, whose code, config and data changed between them."""
    folder = tmp_path_factory.mktemp("diff")
    project = folder / "project"
    project.mkdir()
    run_git(project, "init", "-q")
    run_git(project, "config", "diff.noprefix", "true")
    (project / "model.py").write_text("width = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        finished(folder, "a", [3.0, 2.0, "nan"])
        (project / "model.py").write_text("width = 2\n")
        (project / "new file.py").write_text("")
        finished(folder, "b", [3.0, 2.5, "nan"], "training.learning_rate=1e-2")
    return folder / "experiments"


def test_what_differs_in_order(root):
    done = ostinato("diff", "a", "b", "--root", root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "config     training.learning_rate: 0.0003 (default) -> 0.01 (-o)",
        "code       project: model.py changed",
        "           project: new file.py added",
        "data       sources.train.content: a -> b",
        "command    ostinato train a -> ostinato train b",
        "rows       part at step 2: loss 2.0 -> 2.5",
    ]


def test_as_json_and_with_the_patch(root):
    found = json.loads(ostinato("diff", "a", root / "b", "--root", root, "--code", "--json").stdout)
    assert list(found)[2:11] == [
        "config", "code", "data", "tokenizer", "packages", "hardware", "threads", "command", "seed",
    ]  # fmt: skip
    assert found["first_difference"] == {"step": 2, "kind": "train", "field": "loss", "a": 2.0, "b": 2.5}
    assert found["rows"] == {"steps": 3, "evaluations": 0}
    assert "--- a/model.py\n+++ b/model.py\n@@ -1 +1 @@\n-width = 1\n+width = 2\n" in found["code"][0]["patch"]
    assert found["packages"] == found["hardware"] == found["threads"] == found["seed"] == []


def test_a_run_and_itself(root):
    done = ostinato("diff", "a", "a", "--root", root)
    assert done.stdout.splitlines()[0] == "nothing is recorded that differs between a and a"
    assert done.stdout.splitlines()[1] == "rows       equal in the 3 steps and 0 evaluations that both have"


def test_damage_is_said(root):
    done = ostinato("diff", "a", "c", "--root", root)
    assert done.returncode == 2 and "no run of this name" in done.stderr
    for bundle in (root / "b" / "provenance" / "code").glob(
        "*.bundle"
    ):  # the project's, and ostinato's if it is no wheel
        bundle.unlink()
    done = ostinato("diff", "a", "b", "--root", root)
    assert done.returncode == 0 and "code       project: git fetch" in done.stdout
    (root / "b" / "metadata.json").write_text("{")
    done = ostinato("diff", "a", "b", "--root", root)
    assert done.returncode == 3 and "metadata.json cannot be read" in done.stderr
