"""Trainers in processes of their own take turns, chunk by chunk of their steps: each waits while another trains.

So start-up is not measured, whatever else the machine does hits neighbouring chunks alike, and a peer may live in
another environment: what it needs of this file is the standard library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, THREADS, medians, spread, take_turns

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


class Turns:
    """The trainer's side: told of each step's end, it waits for its turn and reports what the last one took.

    Whatever the trainer itself prints goes to the standard error.
    """

    def __init__(self, chunk: int, warmup: int) -> None:
        self.chunk, self.warmup, self.steps = chunk, warmup, 0
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.began = (0.0, 0.0)

    def step_ended(self, facts: Callable[[], dict[str, Any]] = dict) -> None:
        """The warm-up ends with the `facts`, every later chunk with its seconds per step: `wall`, `processor`."""
        self.steps += 1
        done = self.steps - self.warmup
        if done < 0 or done % self.chunk:
            return
        ended = time.perf_counter(), time.process_time()
        wall, processor = ((end - begin) / self.chunk for begin, end in zip(self.began, ended, strict=True))
        self.answers.write(json.dumps(facts() if done == 0 else {"wall": wall, "processor": processor}) + "\n")
        self.answers.flush()
        if not sys.stdin.readline():
            sys.exit()
        self.began = time.perf_counter(), time.process_time()


class Contender:
    """Our side of a trainer's process; made, it has warmed up and waits. `facts` are what it said then."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "BENCH_THREADS")}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, **QUIET, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self._answer()

    def turn(self) -> dict[str, float]:
        """Let it train a chunk: wall and processor seconds per step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """It ends when it is told nothing more."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended with {self.process.wait()}")  # type: ignore[arg-type]
        return json.loads(line)


def ours(config: str, overrides: Sequence[str], chunk: int, warmup: int) -> list[str | Path]:
    """The command of our own trainer as a contender."""
    return [sys.executable, "-m", "benchmarks.peers.ours_in_turns", config, str(chunk), str(warmup), *overrides]


def seconds_in_turns(
    commands: Mapping[str, Sequence[str | Path]], rounds: int, facts: Mapping[str, float]
) -> dict[str, dict[str, list[float]]]:
    """By clock, then by contender, seconds per step of every chunk. `facts`: what they must all agree with."""
    contenders: dict[str, Contender] = {}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    try:
        for name, command in commands.items():
            contenders[name] = Contender(command)
            same_facts(name, contenders[name].facts, facts)

        def turn(name: str) -> Callable[[], float]:
            def run() -> float:
                found = contenders[name].turn()
                processor[name].append(found["processor"])
                return found["wall"]

            return run

        return {"wall": take_turns({name: turn(name) for name in contenders}, rounds), "processor": processor}
    finally:
        for contender in contenders.values():
            contender.end()


def same_facts(name: str, told: Mapping[str, float], ours: Mapping[str, float]) -> None:
    """Sizes of the work and log-probs must agree, or times mean nothing."""
    for fact, value in told.items():
        if abs(ours[fact] - value) > 1e-5 * abs(value):
            raise SystemExit(f"{fact}: ours is {ours[fact]}, {name} has {value}. They do not do the same.")


def ratio_lines(seconds: Mapping[str, Mapping[str, list[float]]], aim: str, *, of_peer: bool) -> list[str]:
    """`ostinato / peer` of neighbouring chunks, of times or, `of_peer` over ours, of what is done in a time."""
    lines = []
    for clock, kept in seconds.items():
        mine = kept["ostinato"]
        for name in [name for name in kept if name != "ostinato"]:
            pairs = [(b, a) if of_peer else (a, b) for a, b in zip(mine, kept[name], strict=True)]
            what = f"{'rate' if of_peer else 'time'}, ostinato / {name}, by the {clock}'s clock"
            lines.append(f"- {what} ({aim}): {spread([a / b for a, b in pairs])}")
    return lines


def time_lines(seconds: Mapping[str, list[float]], units: int = 1, unit: str = "") -> list[str]:
    """The median time of a step of each contender, and `units` of it per second."""
    return [
        f"- {name}: {1000 * value:.0f} ms a step" + (f", {units / value:.4g} {unit}/s" if unit else "")
        for name, value in medians(seconds).items()
    ]
