"""Runs put aside and brought back whole; never a live one, nor one that others started from."""

import pytest

from ostinato.core.errors import UserError
from ostinato.core.manifest import write_json
from ostinato.experiment.trash import bring_back, dependents, put_aside
from tests.experiment.making import start_run


def test_away_and_back_is_the_same_run(tmp_path):
    run = start_run(tmp_path)
    with pytest.raises(UserError, match="exp001 is running: stop it first"):
        put_aside(run.folder)
    run.finish("completed")
    before = sorted(path.name for path in run.folder.rglob("*"))
    target = put_aside(run.folder)
    assert not run.folder.exists() and target.parent.name == ".trash"
    assert bring_back("exp001", tmp_path / "experiments") == run.folder
    assert sorted(path.name for path in run.folder.rglob("*")) == before
    with pytest.raises(UserError, match="not in"):
        bring_back("exp001", tmp_path / "experiments")


def test_a_run_that_another_started_from_stays_unless_forced(tmp_path):
    parent, child = start_run(tmp_path), start_run(tmp_path, "experiment.name=child")
    parent.finish("completed")
    child.finish("completed")
    pins = parent.folder / "checkpoints" / "pins"
    pins.mkdir()
    write_json(pins / f"{child.id}-step_00000001.json", {"version": 1, "run": child.id})
    assert dependents(parent.folder) == ["child"]
    with pytest.raises(UserError, match="child started from it"):
        put_aside(parent.folder)
    put_aside(parent.folder, force=True)
    assert not parent.folder.exists()
