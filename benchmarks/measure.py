"""Side by side: contenders take turns in one run, medians are compared, and the result goes to docs/log.md."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOG = ROOT / "docs" / "log.md"
DATA = ROOT.parent / "shared" / "data"  # real data beside the project, if it is there
THREADS = int(os.environ.get("BENCH_THREADS", min(2, os.cpu_count() or 1)))


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every contender once per round, in turning order, and keep what each returns (seconds, tokens/s)."""
    names = list(contenders)
    kept: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(rounds):
        for name in names if round_number % 2 == 0 else reversed(names):
            kept[name].append(contenders[name]())
    return kept


def medians(kept: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each contender."""
    return {name: statistics.median(values) for name, values in kept.items()}


def spread(values: Sequence[float]) -> str:
    """`0.812 (0.797 to 0.840, 5 rounds)`."""
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g}, {len(values)} rounds)"


def run_json(command: Sequence[str | Path], **environment: str) -> dict:
    """Run a program, single-minded about threads, and read the JSON object on the last line it prints."""
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.strip().splitlines()[-1])


def machine() -> str:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return f"{model}, {THREADS} threads"


def record(title: str, lines: Sequence[str], *, print_only: bool = False, log: Path = LOG) -> None:
    """Print a result and, unless it is only to be printed, append it to the log, dated."""
    import torch

    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    text = "\n".join(
        [f"\n## {when} Benchmark: {title}", "", f"{machine()}, torch {torch.__version__}.", "", *lines, ""]
    )
    print(text)
    if not print_only:
        with log.open("a", encoding="utf-8") as file:
            file.write(text)


def library_text(characters: int = 1_000_000) -> Iterator[str]:
    """Text that every Python installation has: its standard library's source, file by file."""
    import sysconfig

    left = characters
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text("utf-8", errors="replace")[:left]
        left -= len(text)
        yield text
        if not left:
            return
