"""Checkpoint format 1: written whole or not at all, verified before use, never the wrong bits."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ostinato.core import manifest as manifests
from ostinato.core.errors import OstinatoError, RefusedError
from ostinato.training.checkpoint import Snapshot, newest_good, read_tensors, shards, step_folders, write_checkpoint
from ostinato.training.checkpoint_folder import Checkpoints, Retention
from ostinato.training.tensor_files import raw_bytes

RUN = {"run": {"id": "r1", "name": "test"}}


def snapshot(step: int, value: float = 1.0, metrics: dict[str, float] | None = None) -> Snapshot:
    tensors = {
        "model/b.weight": torch.arange(6, dtype=torch.float32).view(2, 3) * value,
        "model/a.bias": torch.tensor([0.1, -0.0], dtype=torch.bfloat16),
        "optimizer/b.weight/exp_avg": torch.full((2, 3), value, dtype=torch.float32),
        "optimizer/b.weight/step": torch.tensor(float(step)),
    }
    return Snapshot(step, tensors, {"config.json": b"{}"}, {"algorithm": {"beta": 0.1}}, RUN, metrics or {})


def folder_of(tmp_path: Path, **options: object) -> tuple[Checkpoints, list[tuple[str, int, dict[str, object]]]]:
    events: list[tuple[str, int, dict[str, object]]] = []
    record = lambda name, step, **fields: events.append((name, step, fields))  # noqa: E731
    return Checkpoints(tmp_path / "checkpoints", Retention(), record, **options), events  # type: ignore[arg-type]


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    saved = snapshot(7, 0.1)
    folder = write_checkpoint(tmp_path, saved, lambda: None)
    manifest = manifests.read_checkpoint(folder)
    manifests.verify_files(folder, manifest)
    loaded = {
        p + "/" + n: t for p in ("model", "optimizer") for n, t in read_tensors(folder, manifest, p + "/").items()
    }
    assert set(loaded) == set(saved.tensors)
    for name, tensor in saved.tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert raw_bytes(loaded[name]).tobytes() == raw_bytes(tensor).tobytes()
    assert manifest["state"]["algorithm"]["beta"] == 0.1


def test_model_file_is_read_by_the_safetensors_library(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, snapshot(1), lambda: None)
    loaded = load_file(folder / "model" / "model.safetensors")
    assert torch.equal(loaded["b.weight"], torch.arange(6.0).view(2, 3))


def test_large_models_are_cut_into_numbered_files() -> None:
    tensors = {name: torch.zeros(10) for name in "cab"}  # 40 bytes each
    assert [sorted(part) for part in shards(tensors, limit_bytes=80)] == [["a", "b"], ["c"]]


def flip(draw: random.Random, victim: Path, other: Path) -> None:
    data = bytearray(victim.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    victim.write_bytes(data)


def cut(draw: random.Random, victim: Path, other: Path) -> None:
    victim.write_bytes(victim.read_bytes()[: draw.randrange(victim.stat().st_size)])


def lengthen(draw: random.Random, victim: Path, other: Path) -> None:
    victim.write_bytes(victim.read_bytes() + draw.randbytes(draw.randrange(1, 50)))


def blank(draw: random.Random, victim: Path, other: Path) -> None:
    """What a full disk or a lost block leaves: the right size, and zeros."""
    victim.write_bytes(bytes(victim.stat().st_size))


def remove(draw: random.Random, victim: Path, other: Path) -> None:
    victim.unlink()


def stale(draw: random.Random, victim: Path, other: Path) -> None:
    """The same file of the checkpoint before."""
    victim.write_bytes(other.read_bytes())


HARMS = (flip, cut, lengthen, blank, remove, stale)


@pytest.mark.parametrize("seed", range(20))
def test_ten_corruptions_in_a_row_are_detected_put_aside_and_the_previous_one_used(tmp_path: Path, seed: int) -> None:
    """200 in all: each kind of harm on each kind of file, the manifest too."""
    draw = random.Random(seed)
    for number in range(10):
        checkpoints, events = folder_of(tmp_path / str(number), background=False)
        for step in (1, 2):
            checkpoints.save(snapshot(step, value=1.0 + step), wait=True)
        before, newest = step_folders(tmp_path / str(number) / "checkpoints")[::-1]
        files = sorted(path for path in newest.rglob("*") if path.is_file() and path.name != "config.json")
        victim = files[draw.randrange(len(files))]
        HARMS[(seed * 10 + number) % len(HARMS)](draw, victim, before / victim.relative_to(newest))
        found = checkpoints.newest("r1")
        assert found is not None and found[0].name == "step_00000001"
        assert newest.with_name("step_00000002.damaged-1").is_dir()
        name, step, fields = events[-1]
        assert (name, step) == ("checkpoint_damaged", 2)
        assert victim.name in str(fields["problem"])


def test_missing_cut_and_swapped_files_are_damage(tmp_path: Path) -> None:
    for step, harm in enumerate(("missing", "cut", "no manifest", "renamed"), 1):
        folder = write_checkpoint(tmp_path, snapshot(step), lambda: None)
        model = folder / "model" / "model.safetensors"
        if harm == "missing":
            model.unlink()
        elif harm == "cut":
            model.write_bytes(model.read_bytes()[:-1])
        elif harm == "no manifest":
            (folder / "manifest.json").unlink()
        else:
            folder.rename(folder.with_name("step_00000099"))
    problems: dict[str, str] = {}
    with pytest.raises(RefusedError, match="no checkpoint is good"):

        def put_aside(folder: Path, problem: str) -> None:
            problems[folder.name] = problem
            folder.rename(folder.with_name(folder.name + ".damaged-1"))

        newest_good(tmp_path, "r1", put_aside)
    assert "of step 4" in problems["step_00000099"]
    assert "manifest.json is missing" in problems["step_00000003"]
    assert "bytes instead of" in problems["step_00000002"]
    assert "model/model.safetensors is missing" in problems["step_00000001"]


def test_a_checkpoint_of_another_run_or_a_newer_format_is_not_used(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, snapshot(1), lambda: None)
    with pytest.raises(RefusedError, match="of run test"):
        newest_good(tmp_path, "another", None)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifests.write_json(folder / "manifest.json", manifests.seal({**manifest, "version": 2}))
    with pytest.raises(RefusedError, match="checkpoint format 2"):
        newest_good(tmp_path, "r1", None)
    assert folder.is_dir()


def test_none_ever_written_is_none(tmp_path: Path) -> None:
    assert newest_good(tmp_path, "r1", None) is None


def test_retention_keeps_the_union(tmp_path: Path) -> None:
    rule = Retention(keep_last=1, keep_every=4, keep_best=1)
    for step, loss in enumerate((1.0, 0.5, 2.0, 3.0, 4.0, 5.0, 6.0), 1):
        write_checkpoint(tmp_path, snapshot(step, metrics={"validation/loss": loss}), lambda: None)
    kept = rule.kept(step_folders(tmp_path), pinned={1})
    # the last two (one is never enough), every fourth, the best (step 2), the pinned
    assert sorted(int(folder.name[5:]) for folder in kept) == [1, 2, 4, 6, 7]


def test_pruning_follows_each_save(tmp_path: Path) -> None:
    checkpoints, _ = folder_of(tmp_path)
    for step in range(1, 7):
        checkpoints.save(snapshot(step), wait=False)
    checkpoints.wait()
    assert [folder.name for folder in step_folders(tmp_path / "checkpoints")] == [f"step_0000000{s}" for s in (6, 5, 4)]


def test_a_refused_commit_leaves_nothing_and_reaches_the_main_thread(tmp_path: Path) -> None:
    def taken_over() -> None:
        raise RefusedError("taken over")

    checkpoints, _ = folder_of(tmp_path, before_commit=taken_over)
    checkpoints.save(snapshot(1), wait=False)
    with pytest.raises(RefusedError, match="taken over"):
        checkpoints.wait()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_failed_save_is_retried_and_two_in_a_row_stop(tmp_path: Path) -> None:
    full = True

    def disk() -> None:
        if full:
            raise OSError(28, "No space left on device")

    checkpoints, events = folder_of(tmp_path, before_commit=disk, background=False)
    checkpoints.save(snapshot(1), wait=True)
    assert checkpoints.must_retry and events[-1][0] == "save_failed"
    full = False
    checkpoints.save(snapshot(2), wait=True)
    assert not checkpoints.must_retry
    full = True
    checkpoints.save(snapshot(3), wait=True)
    with pytest.raises(OstinatoError, match="cannot save"):
        checkpoints.save(snapshot(4), wait=True)
    assert [folder.name for folder in step_folders(tmp_path / "checkpoints")] == ["step_00000002"]


def test_the_same_step_again_must_have_the_same_bits(tmp_path: Path) -> None:
    checkpoints, _ = folder_of(tmp_path, background=False)
    checkpoints.save(snapshot(1), wait=True)
    checkpoints.save(snapshot(1), wait=True)  # equal: kept
    with pytest.raises(RefusedError, match=r"other bits in model/b\.weight"):
        checkpoints.save(snapshot(1, 2.0), wait=True)


def test_leftovers_of_a_killed_writer_are_removed_at_the_next_start(tmp_path: Path) -> None:
    for name in (".tmp-step_00000003-abc", ".trash-step_00000001"):
        (tmp_path / "checkpoints" / name / "model").mkdir(parents=True)
    folder_of(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []
