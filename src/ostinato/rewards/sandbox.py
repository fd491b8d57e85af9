"""A program nobody has read, run with its tests in a sandbox of its own: the side that stays outside."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHILD = Path(__file__).with_name("sandbox_child.py")
SENTINEL_BYTES = 16
MOST_TESTS = 65536 // SENTINEL_BYTES  # what a pipe holds unread
START_SECONDS = 60.0  # for Python to start on a busy machine; no time of the program
WALL_FACTOR = 3  # a program may wait, or share its processor, for so many times its seconds of computing
SANDBOXES = {b"N": "namespaces", b"A": "audit hook"}


@dataclass(frozen=True)
class Limits:
    """What a program may use: seconds of computing, memory and files in MiB, processes and threads together."""

    cpu_seconds: int
    memory_mb: int
    files_mb: int
    processes: int


@dataclass(frozen=True)
class Outcome:
    """What came of a program. `sandbox` is empty where there was none, so that nothing was run.

    `ended`: it came to its end, was neither killed nor crashed, and kept to its limits.
    """

    sandbox: str
    passed: list[bool]
    ended: bool


def run_tests(program: str, tests: list[str], limits: Limits, namespaces: bool = True) -> Outcome:
    """Run a program and then each test; a test has passed when its own random sentinel comes back.

    Its processes are killed afterwards whatever happened. `namespaces` off: the weaker sandbox, for trying it out.
    """
    if not sys.platform.startswith("linux"):
        return Outcome("", [False] * len(tests), False)
    if len(tests) > MOST_TESTS:
        raise ValueError(f"{len(tests)} tests; a program can have {MOST_TESTS}.")
    sentinels = [os.urandom(SENTINEL_BYTES) for _ in tests]
    job = {"program": program, "tests": tests, "namespaces": namespaces, **vars(limits)}
    with tempfile.TemporaryDirectory(prefix="ostinato-sandbox-", ignore_cleanup_errors=True) as folder:
        Path(folder, "job.json").write_text(json.dumps(job), encoding="utf-8")
        output, ended = _run(folder, b"".join(sentinels), limits.cpu_seconds * WALL_FACTOR)
    returned = {output[at : at + SENTINEL_BYTES] for at in range(1, len(output), SENTINEL_BYTES)}
    return Outcome(SANDBOXES.get(output[:1], ""), [sentinel in returned for sentinel in sentinels], ended)


def _run(folder: str, sentinels: bytes, seconds: float) -> tuple[bytes, bool]:
    """What the process wrote, and whether it ended by itself, well."""
    command = [sys.executable, "-P", "-s", str(CHILD)]  # -I, but for the seed of hashes: a set's order repeats
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONHASHSEED": "0"},
        cwd=folder,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    output = b""
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(sentinels)
            process.stdin.close()
        output = _read(process.stdout, 1, START_SECONDS)
        rest = _read(process.stdout, len(sentinels) + 1, seconds) if output else b""
        ended = len(rest) <= len(sentinels)
        output += rest
    except TimeoutError:
        ended = False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # before its leader is reaped, so that the number is still its own
        status = process.wait()
        process.stdout.close()
    return output, ended and status == 0


def _read(pipe: IO[bytes], most: int, seconds: float) -> bytes:
    """Up to `most` bytes, fewer where it ends before. Raises TimeoutError."""
    output, deadline = b"", time.monotonic() + seconds
    while len(output) < most:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(pipe.fileno(), most - len(output))
        if not piece:
            break
        output += piece
    return output
