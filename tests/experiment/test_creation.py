"""A run folder is made whole or not at all, and of any number of starts one wins."""

import os
import stat
import time

import pytest

from ostinato.core.config import load_config
from ostinato.core.errors import UserError
from ostinato.core.manifest import write_json
from ostinato.experiment.naming import exists_message
from ostinato.experiment.reading import read_json, state_of
from ostinato.experiment.run import Run
from tests.experiment.making import config_of, python, start_run

CREATE = """
import os, sys, pathlib, importlib.metadata
from ostinato.core.config import load_config
from ostinato.core.errors import OstinatoError
from ostinato.experiment.run import Run
config = load_config(sys.argv[1])
print("ready")
while not pathlib.Path(sys.argv[2]).exists(): pass
if len(sys.argv) > 3:
    importlib.metadata.version("ostinato")  # whatever it imports, as long as this user may read it
    os.setuid(int(sys.argv[3]))
try:
    run = Run.create(config, command=["ostinato", "train", sys.argv[1]], code=False)
except OstinatoError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
run.finish("completed")
"""
WHOLE = ["checkpoints", "config.yaml", "logs", "metadata.json", "outputs", "provenance", "status.json"]


def test_of_many_starts_on_one_name_one_wins_and_the_folder_is_whole(tmp_path):
    config_of(tmp_path)
    children = [python(CREATE, tmp_path / "exp001.yaml", tmp_path / "go") for _ in range(6)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    errors = [child.communicate()[1] for child in children]
    codes = [child.returncode for child in children]
    assert sorted(codes) == [0, 2, 2, 2, 2, 2]
    for code, error in zip(codes, errors, strict=True):
        assert ("exp001 exists: " in error) == (code == 2)
    assert os.listdir(tmp_path / "experiments") == ["exp001"]
    folder = tmp_path / "experiments" / "exp001"
    assert sorted(os.listdir(folder)) == WHOLE
    winner = children[codes.index(0)].pid
    assert read_json(folder / "provenance" / "segment_00000.json")["pid"] == winner


def test_the_loser_is_told_what_is_there_and_three_ways_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ("experiment.output_root=experiments",)
    run = start_run(tmp_path, *overrides)
    run.status.step = 10000
    run.finish("completed")
    two_days_ago = time.time() - 2 * 86400 - 5
    os.utime(run.folder / "status.json", (two_days_ago, two_days_ago))
    with pytest.raises(UserError) as caught:
        start_run(tmp_path, *overrides)
    assert str(caught.value) == (
        "exp001 exists: completed, step 10000, 2 days ago (experiments/exp001)\n"
        "  continue it     ostinato train configs/exp001.yaml --resume\n"
        "  another name    ostinato train configs/exp001.yaml --name exp001-2\n"
        "  put it aside    ostinato runs rm exp001          (can be undone)"
    )
    assert caught.value.exit_code == 2
    assert os.listdir("experiments") == ["exp001"]


@pytest.mark.parametrize(
    ("command", "again"),
    [
        (["x/ostinato", "train", "a.yaml", "b.yaml"], "ostinato train a.yaml b.yaml --resume"),
        (["ostinato", "train", "a.yaml", "--name", "n"], "ostinato train a.yaml --resume --name exp001"),
        (["ostinato", "train", "--name=n", "a.yaml"], "ostinato train a.yaml --resume --name exp001"),
        (
            ["ostinato", "train", "a.yaml", "-o", "experiment.name=n", "-o", "data.train={name: x}"],
            "ostinato train a.yaml -o 'data.train={name: x}' --resume --name exp001",
        ),
        (["/usr/bin/python"], "ostinato train CONFIG --resume"),
    ],
)
def test_the_advice_repeats_the_whole_command(tmp_path, command, again):
    """Without its overrides a resume would ask another question and be refused."""
    start_run(tmp_path).finish("interrupted")
    text = exists_message(tmp_path / "experiments" / "exp001", command)
    assert text.splitlines()[1] == f"  continue it     {again}"


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    other = tmp_path / "experiments" / "exp001"
    other.mkdir(parents=True)
    (other / "thesis.txt").write_text("five years")
    with pytest.raises(UserError, match="exists and is no run folder"):
        start_run(tmp_path)
    assert (other / "thesis.txt").read_text() == "five years"
    assert os.listdir(tmp_path / "experiments") == ["exp001"]


def test_the_config_is_frozen_and_reloads_to_itself(tmp_path):
    config = config_of(tmp_path)
    run = start_run(tmp_path)
    frozen = run.folder / "config.yaml"
    assert stat.S_IMODE(frozen.stat().st_mode) == 0o444
    assert frozen.read_text() == config.to_yaml()
    assert load_config(frozen).full_hash == config.full_hash == run.metadata["hashes"]["full"]
    run.finish("completed")


def test_names_made_up_at_start_are_the_first_free_ones(tmp_path):
    runs = [start_run(tmp_path, name="null") for _ in range(2)]
    day = time.strftime("%Y%m%d", time.gmtime())
    assert [run.folder.name for run in runs] == [f"pretrain-transformer-{day}-{n}" for n in (1, 2)]
    assert [read_json(run.folder / "metadata.json")["name"] for run in runs] == [run.folder.name for run in runs]
    assert load_config(runs[0].folder / "config.yaml").experiment.name is None
    for run in runs:
        run.finish("completed")


@pytest.mark.parametrize("name", ["-x", ".hidden", "a/b", "a b", "lr.sweep", "x" * 101])
def test_names_that_a_run_may_not_have(tmp_path, name):
    with pytest.raises(UserError, match="is no name for a run"):
        start_run(tmp_path, f"experiment.name={name}")
    assert not (tmp_path / "experiments").exists()


def test_a_secret_in_the_config_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"experiment.extra.api_key: a secret would be stored") as caught:
        start_run(tmp_path, "experiment.extra.api_key=abc123")
    assert "abc123" not in str(caught.value)
    assert not (tmp_path / "experiments").exists()


def test_a_place_that_cannot_be_written_is_said_with_the_remedy(tmp_path):
    (tmp_path / "experiments").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cannot be created here.*\n?.*experiment.output_root=DIR"):
        start_run(tmp_path)


def test_a_folder_without_write_permission(tmp_path):
    """As another user where this one is root, whom permissions do not stop."""
    config_of(tmp_path)
    (tmp_path / "experiments").mkdir(mode=0o555)
    (tmp_path / "go").touch()
    for folder in (tmp_path, *tmp_path.parents):
        if os.stat(folder).st_uid == os.getuid() and not os.stat(folder).st_mode & stat.S_IXOTH:
            os.chmod(folder, 0o755)
    become = ["65534"] if os.getuid() == 0 else []
    child = python(CREATE, tmp_path / "exp001.yaml", tmp_path / "go", *become)
    error = child.communicate()[1]
    assert child.returncode == 2, error
    assert "a run cannot be created here: Permission denied. Make room or give another place" in error
    assert os.listdir(tmp_path / "experiments") == []


def test_what_is_true_at_birth_is_recorded(tmp_path):
    run = Run.create(
        config_of(tmp_path, "experiment.seed=7", "experiment.tags=[a, b]"),
        command=["ostinato", "train", "x.yaml", "--api-key", "verysecret"],
        overrides=["experiment.seed=7"],
        code=False,
    )
    metadata = read_json(run.folder / "metadata.json")
    assert metadata["command"] == ["ostinato", "train", "x.yaml", "--api-key", "***"]
    assert (metadata["seed"], metadata["algorithm"], metadata["tags"]) == (7, "pretrain", ["a", "b"])
    segment = read_json(run.folder / "provenance" / "segment_00000.json")
    assert (segment["pid"], segment["overrides"]) == (os.getpid(), ["experiment.seed=7"])
    assert state_of(run.folder) == "created"
    run.record(numerics="deterministic", data={"plan": "x", "sources": []})
    assert read_json(run.folder / "metadata.json")["numerics"] == "deterministic"
    run.finish("interrupted", signal=2, exit_code=75)
    write_json(run.folder / "metadata.json", {**metadata, "version": 2})
    with pytest.raises(Exception, match="Use a newer ostinato") as caught:
        read_json(run.folder / "metadata.json")
    assert caught.value.exit_code == 3
