"""wandb and mlflow, really, offline: what their stores hold is `metrics.jsonl`, number by number."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
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


def test_wandb_holds_every_number_and_a_resume_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'ostinato[wandb]'")
    monkeypatch.setattr(sys, "argv", ["train", "--api-key=PLANTED"])
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
    files = [file for file in (folder / "logs").rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file for file in files if b"PLANTED" in file.read_bytes()]  # no command line with its secrets


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


def rewound_run(tmp_path: Path) -> Path:
    """A run without trackers whose step 4 came twice."""
    run = start_run(tmp_path, "logging.trackers={}")
    write_steps(run, 1, 4)
    run.finish("interrupted")
    run = Run.resume(run.folder, code=False)
    run.start(step=3)
    write_steps(run, 4, 5)
    run.finish("completed")
    return run.folder


def export(folder: Path, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "ostinato", "runs", "export", str(folder), "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def counting_values(folder: Path) -> Values:
    found = expected([row for row in counting(read_rows(folder)) if row["kind"] in ("train", "eval")])
    assert found[("train/loss", 4)] == [1 / 3 / 4 + 1]
    return found


def test_export_to_tensorboard_sends_the_rows_that_count(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = rewound_run(tmp_path)
    told = export(folder, "--to", "tensorboard", "--out", tmp_path / "elsewhere")
    wanted = counting_values(folder)
    assert told["numbers"] == sum(map(len, wanted.values()))
    read = accumulator.EventAccumulator(str(tmp_path / "elsewhere" / "exp001" / "logs" / "tensorboard")).Reload()
    found = {(tag, e.step): [e.value] for tag in read.Tags()["scalars"] for e in read.Scalars(tag)}
    assert same(found, {k: [struct.unpack("f", struct.pack("f", x))[0] for x in v] for k, v in wanted.items()})


def test_export_to_wandb_sends_the_rows_that_count(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'ostinato[wandb]'")
    folder = rewound_run(tmp_path)
    export(folder, "--to", "wandb", "-o", "mode=offline")
    assert same(wandb_values(folder), counting_values(folder))


def test_export_to_mlflow_sends_the_rows_that_count(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'ostinato[mlflow]'")
    folder = rewound_run(tmp_path)
    told = export(folder, "--to", "mlflow", "-o", f"tracking_uri=file://{tmp_path}/mlruns")
    assert same(mlflow_values(tmp_path, told["remote"]), counting_values(folder))


def test_a_run_without_rows_or_a_library_that_is_not_there_exits_2(tmp_path: Path) -> None:
    run = start_run(tmp_path, "logging.trackers={}")
    command = [sys.executable, "-m", "ostinato", "runs", "export", str(run.folder), "--to", "wandb"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "exp001 has no rows to send." in done.stderr
    write_steps(run, 1, 1)
    (tmp_path / "wandb.py").write_text("raise ImportError('not here')")
    hidden = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden)
    assert done.returncode == 2
    assert "tracker wandb: not here. Install it: pip install 'ostinato[wandb]'." in done.stderr
    run.finish("completed")
