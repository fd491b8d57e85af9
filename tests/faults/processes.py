"""Real `ostinato` processes that can really be killed, forked from a server that has torch imported already."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.preload"])
VOLATILE = ("time", "segment", "perf")


def command(arguments: list[str], log: str) -> None:
    """What the child does: the command line, its words in a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    from ostinato.cli.main import main

    main(arguments)


def start(arguments: list[str], log: Path) -> ForkServerProcess:
    """Start `ostinato ARGUMENTS`."""
    process = CONTEXT.Process(target=command, args=(arguments, str(log)))
    process.start()
    return process


def finish(arguments: list[str], log: Path, timeout: float = 120) -> int:
    """Run `ostinato ARGUMENTS` to its end; the exit code."""
    process = start(arguments, log)
    process.join(timeout)
    assert process.exitcode is not None, f"{arguments} did not end: {log.read_text()}"
    return process.exitcode


def rows(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole."""
    path = run / "logs" / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_rows(run: Path, count: int, process: ForkServerProcess, timeout: float = 60) -> None:
    """Until metrics.jsonl has `count` lines or the process is over."""
    path, end = run / "logs" / "metrics.jsonl", time.monotonic() + timeout
    while process.exitcode is None and time.monotonic() < end:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)


def result(run: Path) -> tuple[dict[Any, Any], dict[str, str], Any]:
    """What must be equal: the rows that count without their volatile fields, the tensors' hashes and the plain state of
    the last checkpoint."""
    counting: dict[Any, Any] = {}
    for row in rows(run):
        if row["kind"] == "rewind":
            counting = {key: value for key, value in counting.items() if key[1] <= row["step"]}
        elif row["kind"] in ("train", "eval"):
            counting[row["kind"], row["step"]] = {n: v for n, v in row.items() if n not in VOLATILE}
    last = sorted((run / "checkpoints").glob("step_????????"))[-1]
    manifest = json.loads((last / "manifest.json").read_text())
    return counting, {name: entry["xxh3"] for name, entry in manifest["tensors"].items()}, manifest["state"]
