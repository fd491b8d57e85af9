"""wandb and mlflow, really, offline: what their stores hold is `metrics.jsonl`, number by number."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ostinato.experiment.reading import counting, read_json, read_rows
from ostinato.experiment.run import Run
from ostinato.experiment.tracker_rows import scalars
from tests.experiment.making import start_run

BLOCK_BYTES = 32768  # of the log format that wandb's files have
Values = dict[tuple[str, int], list[float]]


def wandb_records(file: Path) -> list[Any]:
    """The records of a `.wandb` file: 7 bytes of header, then chunks (checksum 4, length 2, kind 1) in blocks."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts, found = file.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def wandb_values(folder: Path) -> Values:
    found: Values = {}
    for file in sorted(folder.glob("logs/wandb/offline-run-*/run-*.wandb")):
        for record in wandb_records(file):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in items.items():
                if not name.startswith("_"):
                    found.setdefault((name, items["_step"]), []).append(float(value))
    return found


def mlflow_values(root: Path, remote: dict[str, Any]) -> Values:
    found: Values = {}
    [folder] = root.glob(f"mlruns/*/{remote['id']}/metrics")
    for file in (path for path in folder.rglob("*") if path.is_file()):
        for line in file.read_text().splitlines():
            _, value, step = line.split()[:3]
            found.setdefault((str(file.relative_to(folder)), int(step)), []).append(float(value))
    return found


def expected(rows: list[dict[str, Any]]) -> Values:
    found: Values = {}
    for row in rows:
        for name, value in scalars(row).items():
            found.setdefault((name, row["step"]), []).append(value)
    return found


def write_steps(run: Run, first: int, last: int) -> None:
    for step in range(first, last + 1):
        run.status.step = step
        run.metrics.write({"step": step, "loss": 1 / 3 / step + run.segment, "perf": {"seconds": 0.1 * step}})
    run.metrics.write({"kind": "eval", "step": last, "validation/loss": 0.1 + last, "validation/wild": float("nan")})


def two_segments(tmp_path: Path, tracker: str) -> Path:
    """A run that was stopped after step 4 and resumed after step 3, with the tracker on."""
    run = start_run(tmp_path, f"logging.trackers={tracker}")
    write_steps(run, 1, 4)
    run.finish("interrupted")
    run = Run.resume(run.folder, code=False)
    run.start(step=3)
    write_steps(run, 4, 6)
    run.finish("completed")
    assert [row["event"] for row in read_rows(run.folder, "event")] == []  # no tracker was switched off
    return run.folder


def remotes(folder: Path, label: str) -> list[dict[str, Any]]:
    files = sorted((folder / "provenance").glob("segment_*.json"))
    return [read_json(file)["trackers"][label] for file in files]


def same(found: Values, wanted: Values) -> bool:
    return {k: sorted(map(repr, v)) for k, v in found.items()} == {k: sorted(map(repr, v)) for k, v in wanted.items()}


def test_wandb_holds_every_number_and_a_resume_is_the_same_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'ostinato[wandb]'")
    folder = two_segments(tmp_path, "{wandb: {mode: offline, project: tests}}")
    first, second = remotes(folder, "wandb")
    assert first == second
    assert (first["id"], first["project"]) == (read_json(folder / "metadata.json")["id"], "tests")
    rows = read_rows(folder)
    assert same(wandb_values(folder), expected([row for row in rows if row["kind"] in ("train", "eval")]))
    [config] = [
        {update.key or update.nested_key[0]: json.loads(update.value_json) for update in record.run.config.update}
        for record in wandb_records(sorted(folder.glob("logs/wandb/offline-run-*/run-*.wandb"))[0])
        if record.WhichOneof("record_type") == "run"
    ]
    assert config["training.total_steps"] == 10


def test_mlflow_holds_every_number_and_a_resume_is_the_same_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'ostinato[mlflow]'")
    folder = two_segments(tmp_path, "{mlflow: {experiment: tests}}")
    first, second = remotes(folder, "mlflow")
    assert first == second
    rows = [row for row in read_rows(folder) if row["kind"] in ("train", "eval")]
    found = mlflow_values(folder.parent, first)
    assert same(found, expected(rows))
    assert found[("train/loss", 4)] == [1 / 3 / 4, 1 / 3 / 4 + 1]  # step 4 came twice, and mlflow forgets nothing
    [run] = folder.parent.glob(f"mlruns/*/{first['id']}")
    assert (run / "params" / "training.total_steps").read_text() == "10"
    assert "status: 3" in (run / "meta.yaml").read_text()  # finished


def test_counting_rows_are_what_export_sends(tmp_path: Path) -> None:
    """Guards the helper above: of a step that came twice, the later one counts."""
    run = start_run(tmp_path, "logging.trackers={}")
    write_steps(run, 1, 4)
    run.finish("interrupted")
    run = Run.resume(run.folder, code=False)
    run.start(step=3)
    write_steps(run, 4, 5)
    run.finish("completed")
    assert expected(counting(read_rows(run.folder)))[("train/loss", 4)] == [1 / 3 / 4 + 1]
