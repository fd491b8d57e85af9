"""`from ostinato import Run, Runs, load_config, train`, the page docs/python.md, and the notebook, on a tiny run."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import ostinato
from ostinato import Run, Runs, load_config, train
from ostinato.core.errors import UserError
from tests.training.tiny import write_config

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "exploration.ipynb"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Of six steps, saved every second, evaluated every third, with texts sampled at the third."""
    return write_config(tmp_path_factory.mktemp("python"), "pretrain")


@pytest.fixture(scope="module")
def run(config):
    return train(config, ["logging.samples_interval=3", "generation.max_new_tokens=4"], name="exp001")


def test_importing_ostinato_and_reading_runs_imports_no_torch(run):
    code = (
        "import sys, ostinato\n"
        "assert not [name for name in sys.modules if name.startswith('ostinato.')]\n"
        "from ostinato import Run, Runs, load_config, train\n"
        "run = Run('exp001', root=sys.argv[1])\n"
        "run.metrics(), run.checkpoints(), run.samples(), run.config, len(Runs(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, run.folder.parent], check=True)
    assert {"Run", "Runs", "load_config", "train"} <= set(dir(ostinato))
    with pytest.raises(AttributeError, match="no attribute 'Rum'"):
        ostinato.Rum  # noqa: B018


def test_a_run(run):
    assert (run.name, run.state, run.step) == ("exp001", "completed", 6)
    assert run.config.training.total_steps == run.status["total_steps"] == 6
    assert run.metadata["hashes"]["full"] == run.config.full_hash
    columns = run.metrics()
    assert columns["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert columns["loss"].dtype == numpy.float64
    assert run.metrics("eval")["step"].tolist() == [3, 6]
    assert len(run.history()) > 8
    assert [(entry["step"], entry["problem"]) for entry in run.checkpoints()] == [(2, None), (4, None), (6, None)]
    assert list(run.samples(3)[0]) == ["text"]
    assert run.samples() == run.samples(6)
    with pytest.raises(UserError, match="no samples at step 4, but at 3, 6"):
        run.samples(4)
    assert repr(run) == f"Run({str(run.folder)!r}): completed, step 6"
    with pytest.raises(UserError, match=r"Did you mean exp001\?"):
        Run("exp01", root=run.folder.parent)


def test_what_a_row_lacks_is_nan_and_what_was_taken_back_is_not_there(tmp_path):
    from tests.experiment.test_listing import made_run, write_rows

    folder = made_run(tmp_path, "a")
    rows = [{"kind": "train", "step": step, "loss": float(step)} for step in (1, 2, 3)]
    again = {"kind": "train", "step": 2, "loss": "inf", "extra": 7}
    write_rows(folder, [*rows, {"kind": "rewind", "step": 1, "segment": 1}, again])
    found = Run("a", root=tmp_path)
    assert found.step == 2
    columns = found.metrics()
    assert columns["step"].tolist() == [1, 2]
    assert columns["loss"].tolist() == [1.0, float("inf")]
    assert numpy.array_equal(columns["extra"], [numpy.nan, 7], equal_nan=True)
    assert len(found.history()) == 5
    assert (found.samples(), found.checkpoints(), found.metrics("eval")["step"].tolist()) == ([], [], [])


def test_a_table(run):
    pandas = pytest.importorskip("pandas")
    table = run.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table["loss"].tolist() == run.metrics()["loss"].tolist()


def test_training_from_python_is_training_from_the_command_line(config, run):
    """To the last bit, from a loaded config too; and signals are again what they were."""
    before = signal.getsignal(signal.SIGINT)
    root = str(run.folder.parent)
    command = [sys.executable, "-m", "ostinato", "train", str(config), "--name", "shell"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    loaded = train(load_config(config, ["experiment.name=loaded"]))
    named = train(load_config(config), name="named")
    for other in (Run("shell", root), loaded, named):
        assert other.metadata["hashes"]["science"] == named.metadata["hashes"]["science"]
        for name, column in named.metrics().items():
            assert numpy.array_equal(other.metrics()[name], column), name
    assert loaded.metrics()["loss"].tolist() == run.metrics()["loss"].tolist()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_is_stopped_goes_on(config):
    """Ctrl-C as it comes to a notebook: a signal while it trains."""
    script = (
        "import os, signal, sys\nfrom ostinato import train\nfrom ostinato.core.errors import Stopped\n"
        "from ostinato.training.trainer import BaseTrainer\n"
        "own = BaseTrainer.training_step\n"
        "def step(self, data):\n"
        "    if data.step == 3: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return own(self, data)\n"
        "BaseTrainer.training_step = step\n"
        "try:\n    train(sys.argv[1], name='stopped')\n"
        "except Stopped as stopped:\n    print('STOPPED', stopped.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, config], capture_output=True, text=True)
    assert "STOPPED 75" in done.stdout, done.stderr
    found = Run("stopped", root=config.parent / "experiments")
    assert (found.state, found.step < 6) == ("interrupted", True)
    again = train(config, name="stopped", resume=True)
    assert (again.state, again.step) == ("completed", 6)
    assert train(config, name="stopped", resume=True).folder == again.folder  # nothing to do


def test_mistakes_are_raised_before_anything_is_written(config, run):
    names = sorted(path.name for path in run.folder.parent.iterdir())
    with pytest.raises(UserError, match="exp001 exists: completed"):
        train(config, name="exp001")
    with pytest.raises(UserError, match=r"training\.total_stepz"):
        train(config, ["training.total_stepz=3"])
    with pytest.raises(UserError, match=r"model\.name"):
        train(config, ["model.name=null"])
    assert sorted(path.name for path in run.folder.parent.iterdir()) == names


def test_runs(run):
    root = run.folder.parent
    assert "exp001" in [one.name for one in Runs(root)]
    chosen = Runs(root).where("state=completed and training.total_steps=6").where("experiment.name=exp001")
    assert (len(chosen), [one.name for one in chosen]) == (1, ["exp001"])
    assert Runs(root)["exp001"].step == 6
    assert repr(chosen) == f"Runs({str(root)!r}): exp001"
    assert (len(Runs(root / "nowhere")), list(Runs(root / "nowhere"))) == (0, [])
    with pytest.raises(UserError, match="is no condition"):
        Runs(root).where("state")


def test_the_notebook_runs_as_it_stands(run, monkeypatch, capsys):
    """Its cells one after the other, as plain Python."""
    monkeypatch.setenv("OSTINATO_RUNS", str(run.folder.parent))
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    names: dict = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "exp001 pretrain 6" in printed
    assert re.search(r"loss \d\.\d{4} -> \d\.\d{4}", printed)


def test_the_notebook_is_of_format_4():
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | code
        assert (cell.get("outputs"), cell.get("execution_count")) in (([], None), (None, None))


def test_the_page_runs_as_it_stands(run, monkeypatch, tmp_path):
    """Its Python blocks, where `experiments/exp001` is the run above and config.yaml its config."""
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    (tmp_path / "experiments").symlink_to(run.folder.parent)
    (tmp_path / "config.yaml").write_text((run.folder.parents[1] / "tiny.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(block, names)
    assert names["run"].name == "from-python"
