"""`ostinato runs lineage`: trees from both ends, pins, and what is missing or damaged in them."""

import json

import pytest

from ostinato.core.manifest import json_text, seal, write_json
from tests.cli.test_runs_verbs import ostinato
from tests.experiment.test_listing import made_run


def member(root, name, parent=None, step=None, **more):
    """A finished run that began from a checkpoint of `parent`, which it pinned."""
    folder = made_run(root, name, **more)
    (folder / "provenance" / "segment_00000.json").write_text("{}")
    record = json.loads((folder / "metadata.json").read_text()) | {"id": f"id-{name}"}
    if parent:
        checkpoint = saved(root / parent, step)
        began = {"run": parent, "id": f"id-{parent}", "step": step, "checkpoint": checkpoint}
        record["lineage"] = {"init_from": began, "reproduces": None, "sweep": None}
        pin(root / parent, f"id-{name}", step)
    write_json(folder / "metadata.json", record, durable=False)
    return folder


def saved(run, step):
    """The hash of a checkpoint, made if it is not there."""
    manifest = seal({"format": "ostinato-checkpoint", "version": 1, "step": step, "files": {}, "tensors": {}})
    folder = run / "checkpoints" / f"step_{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(json_text(manifest))
    return manifest["xxh3"]


def pin(run, child, step):
    (run / "checkpoints" / "pins").mkdir(parents=True, exist_ok=True)
    write_json(run / "checkpoints" / "pins" / f"{child}-step_{step:08d}.json", {"version": 1, "run": child})


@pytest.fixture
def root(tmp_path):
    """sft -> two children, one of which has a child; `big` is the teacher of `student`; `alone` has nothing."""
    for name in ("sft", "alone", "big"):
        member(tmp_path, name)
    member(tmp_path, "dpo-1", "sft", 500)
    member(tmp_path, "dpo-2", "sft", 600)
    member(tmp_path, "grpo-2", "dpo-1", 1000, state="failed")
    member(tmp_path, "student", "dpo-2", 9)
    saved(tmp_path / "big", 70)
    pin(tmp_path / "big", "id-student", 70)
    return tmp_path


def lines(*arguments):
    done = ostinato("lineage", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_all_trees(root):
    assert lines("--root", root) == [
        "big @70 -> [pinned by] student",
        "sft @500 -> dpo-1 @1000 -> grpo-2 (failed)",
        "    @600 -> dpo-2 @9 -> student",
    ]


def test_both_directions_of_one_run(root):
    assert lines("dpo-1", "--root", root) == ["sft @500 -> *dpo-1 @1000 -> grpo-2 (failed)"]
    assert lines(root / "student") == ["big @70 -> [pinned by] *student", "sft @600 -> dpo-2 @9 -> *student"]
    assert lines("alone", "--root", root) == ["*alone"]


def test_as_json(root):
    found = json.loads(ostinato("lineage", "grpo-2", "--root", root, "--json").stdout)
    assert found["run"] == "id-grpo-2"
    assert [node["name"] for node in found["runs"]] == ["dpo-1", "grpo-2", "sft"]
    assert {"parent": "id-sft", "child": "id-dpo-1", "step": 500, "kind": "began_from", "problem": None} in found[
        "edges"
    ]
    assert len(found["edges"]) == 2


def test_what_is_missing_or_damaged_is_marked(root):
    (root / "sft" / "checkpoints" / "step_00000500" / "manifest.json").write_text("{")
    (root / "sft" / "checkpoints" / "step_00000600" / "manifest.json").unlink()
    (root / "sft" / "checkpoints" / "step_00000600").rmdir()
    pin(root / "alone", "id-gone", 3)
    (root / "big").rename(root / ".big")
    member(root, "orphan", "sft", 700)
    record = json.loads((root / "orphan" / "metadata.json").read_text())
    record["lineage"]["init_from"] |= {"id": "id-lost", "run": "lost"}
    write_json(root / "orphan" / "metadata.json", record, durable=False)
    found = lines("--root", root)
    assert found[0] == "alone @3 [the checkpoint is missing] -> [pinned by] id-gone (missing)"
    assert found[1].startswith("sft @500 [the checkpoint is damaged: manifest.json cannot be parsed: ")
    assert found[1].endswith("] -> dpo-1 @1000 -> grpo-2 (failed)")
    assert found[2:] == [
        "    @600 [the checkpoint is missing] -> dpo-2 @9 -> student",
        "    @700 -> [pinned by] orphan",
        "lost (missing) @700 [its run is not here] -> orphan",
    ]


def test_a_checkpoint_written_anew_is_not_the_one_it_began_from(root):
    record = json.loads((root / "dpo-1" / "metadata.json").read_text())
    record["lineage"]["init_from"]["checkpoint"] = "0" * 32
    write_json(root / "dpo-1" / "metadata.json", record, durable=False)
    assert lines("dpo-1", "--root", root)[0].startswith("sft @500 [the checkpoint is no longer the one it began from]")


def test_a_ring_and_damaged_records_end(root):
    record = json.loads((root / "sft" / "metadata.json").read_text())
    record["lineage"] = {"init_from": {"run": "grpo-2", "id": "id-grpo-2", "step": 1, "checkpoint": None}}
    write_json(root / "sft" / "metadata.json", record, durable=False)
    (root / "alone" / "metadata.json").write_text("{")
    assert len(lines("--root", root)) <= 6
    assert lines("sft", "--root", root)


def test_no_lineage_and_no_such_run(tmp_path):
    member(tmp_path, "alone")
    assert lines("--root", tmp_path) == [f"no run in {tmp_path} began from another"]
    assert lines("--root", tmp_path / "nowhere") == [f"no run in {tmp_path / 'nowhere'} began from another"]
    done = ostinato("lineage", "alnoe", "--root", tmp_path)
    assert (done.returncode, "Did you mean alone?" in done.stderr) == (2, True)


def test_a_rerun_is_below_what_it_repeats(root):
    """It began from the same parent, which it needs as well."""
    folder = member(root, "dpo-1-repro-1", "sft", 500)
    record = json.loads((folder / "metadata.json").read_text())
    record["lineage"]["reproduces"] = {"run": "dpo-1", "id": "id-dpo-1"}
    write_json(folder / "metadata.json", record, durable=False)
    assert lines("dpo-1", "--root", root) == [
        "sft @500 -> *dpo-1 @1000 -> grpo-2 (failed)",
        "                   -> [repeated as] dpo-1-repro-1",
    ]
    assert lines("dpo-1-repro-1", "--root", root) == [
        "dpo-1 -> [repeated as] *dpo-1-repro-1",
        "sft @500 -> *dpo-1-repro-1",
    ]
