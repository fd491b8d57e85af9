"""The runs below a root: claims of dead processes, leftovers, damage that shows without reading every byte."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ostinato.cli.checks.answer import Answer
from ostinato.data.fingerprint import cache_folder
from ostinato.experiment import soundness
from ostinato.experiment.trash import size_bytes

OLD_SECONDS = 600.0  # nothing that is being made takes longer without being written to
SHOWN = 5


def claims(root: Path) -> Iterator[Answer]:
    """Runs whose owner is gone before their end."""
    states = soundness.states_of(root)
    lost = [name for name, state in states.items() if state == "lost"]
    live = sum(state in soundness.LIVE for state in states.values())
    if lost:
        again = f" -o experiment.output_root={shlex.quote(str(root))}" if str(root) != "experiments" else ""
        name, place = shlex.quote(lost[0]), shlex.quote(str(root))
        remedy = f"ostinato train --resume --name {name}{again}, or: ostinato runs rm {name} --root {place}"
        yield Answer("claims", "warning", f"{listed(lost)}: running by their records, but nobody does", remedy)
    else:
        yield Answer("claims", "ok", f"{len(states)} runs in {root}, {live} running")


def leftovers(root: Path) -> Iterator[Answer]:
    """What killed processes left behind, here and in the cache of prepared data."""
    found = soundness.leftovers(root, soundness.states_of(root), OLD_SECONDS) if root.is_dir() else []
    cache = cache_folder()
    if cache.is_dir():
        found += soundness.aged(list(cache.rglob(".tmp-*")), cache, OLD_SECONDS)
    if not found:
        yield Answer("leftovers", "ok", "none")
        return
    size = sum(size_bytes(path) if path.is_dir() else path.lstat().st_size for path in found)
    remedy = "rm -r " + " ".join(shlex.quote(str(path)) for path in found[:SHOWN])
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    text = f"{len(found)} of processes that were killed, {size / 1e6:,.1f} MB"
    yield Answer("leftovers", "warning", text, remedy + more)


def damage(root: Path) -> Iterator[Answer]:
    """Runs whose records or checkpoints are not whole."""
    damaged = 0
    for folder in soundness.run_folders(root):
        if problems := soundness.visible_problems(folder):
            damaged += 1
            told = "; ".join(f"{one['path']} {one['problem']}" for one in problems[:SHOWN])
            more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            remedy = f"ostinato runs verify {shlex.quote(folder.name)} --root {shlex.quote(str(root))}"
            yield Answer("damage", "problem", f"{folder.name}: {told}{more}", remedy)
    for folder in soundness.half_runs(root):
        damaged += 1
        text = f"{folder.name}: a run without metadata.json or provenance/, which no verb sees"
        yield Answer("damage", "problem", text, f"Restore it from a copy, or remove {shlex.quote(str(folder))}.")
    if not damaged:
        yield Answer("damage", "ok", "none that shows without reading every byte (that: ostinato runs verify --all)")


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
