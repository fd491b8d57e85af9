"""Any damage to a run folder is found and named, and looking changes nothing."""

import json
import os
import shutil

import numpy
import pytest
from safetensors.numpy import save

from ostinato.core.manifest import hash_bytes, hash_file, seal, write_json
from ostinato.experiment.verify import verify_run
from tests.experiment.making import start_run

STEP = "checkpoints/step_00000003"


def add_checkpoint(folder, run_id, step=3):
    """A checkpoint of format 1 with two tensors and a config."""
    place = folder / "checkpoints" / f"step_{step:08d}"
    (place / "model").mkdir(parents=True)
    tensors = {"a": numpy.arange(6, dtype=numpy.float32).reshape(2, 3), "b": numpy.ones(4, dtype=numpy.float32)}
    (place / "model" / "model.safetensors").write_bytes(save(tensors))
    (place / "model" / "config.json").write_text("{}")
    files = {
        name: {"bytes": (place / name).stat().st_size, "xxh3": hash_file(place / name)}
        for name in ("model/config.json", "model/model.safetensors")
    }
    entries = {
        f"model/{name}": {"file": "model/model.safetensors", "dtype": "F32", "shape": list(tensor.shape),
                          "xxh3": hash_bytes(tensor.tobytes())}
        for name, tensor in tensors.items()
    }  # fmt: skip
    manifest = {"format": "ostinato-checkpoint", "version": 1, "step": step, "run": {"id": run_id, "name": "exp001"}}
    write_json(place / "manifest.json", seal({**manifest, "files": files, "tensors": entries}))
    return place


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A completed run with rows and a checkpoint."""
    run = start_run(tmp_path_factory.mktemp("intact"))
    for step in range(1, 4):
        run.metrics.write({"step": step, "loss": 1.0})
    add_checkpoint(run.folder, run.id)
    run.event("checkpoint_saved", 3)
    run.finish("completed")
    return run.folder


@pytest.fixture
def folder(intact, tmp_path):
    return shutil.copytree(intact, tmp_path / "exp001")


def state(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_an_intact_run_is_intact_and_stays_as_it_is(folder):
    before = state(folder)
    assert verify_run(folder) == []
    assert state(folder) == before


FILES = ["config.yaml", "metadata.json", "status.json", "provenance/segment_00000.json", "provenance/environment.json",
         "provenance/config_origins.json", f"{STEP}/manifest.json", f"{STEP}/model/model.safetensors",
         f"{STEP}/model/config.json"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in [problem["path"] for problem in verify_run(folder)]


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_named(folder, name):
    path = folder / name
    os.chmod(path, 0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert name in [problem["path"] for problem in verify_run(folder)]


@pytest.mark.parametrize("name", ["config.yaml", *FILES[-3:]])
def test_any_flipped_byte_is_named(folder, name):
    path = folder / name
    os.chmod(path, 0o644)
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 7)):
        flipped = bytearray(data)
        flipped[place] ^= 0x04
        path.write_bytes(flipped)
        assert [problem["path"] for problem in verify_run(folder)] == [name], place
    path.write_bytes(data)
    assert verify_run(folder) == []


def test_a_config_that_was_exchanged_as_a_whole_is_named(folder, tmp_path):
    other = start_run(tmp_path, "experiment.seed=5")
    other.finish("completed")
    os.chmod(folder / "config.yaml", 0o644)
    shutil.copy(other.folder / "config.yaml", folder / "config.yaml")
    [problem] = verify_run(folder)
    assert problem["path"] == "config.yaml"
    assert "but metadata.json says" in problem["problem"]


def test_a_tensor_that_its_manifest_does_not_know_is_named(folder):
    path = folder / STEP / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["tensors"]["model/a"]["xxh3"] = "0" * 32
    write_json(path, seal(manifest))
    [problem] = verify_run(folder)
    assert problem["problem"] == "model/model.safetensors does not match the hash of tensor model/a"


def test_a_checkpoint_of_another_run_is_named(folder):
    shutil.rmtree(folder / STEP)
    add_checkpoint(folder, "another")
    [problem] = verify_run(folder)
    assert problem["problem"].startswith("is of run another, not of ")


def test_a_lost_checkpoint_and_rubbish_in_the_rows_are_named(folder):
    shutil.rmtree(folder / STEP)
    with open(folder / "logs" / "metrics.jsonl", "ab") as file:
        file.write(b"rubbish\n")
    assert verify_run(folder) == [
        {"path": "logs/metrics.jsonl", "problem": "line 5 is no metrics row: rubbish"},
        {"path": STEP, "problem": "is missing, though status.json says it was saved last"},
    ]
