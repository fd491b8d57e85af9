"""The disk of the runs: space, kind, speed, and its clock."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ostinato.cli.checks.answer import Answer
from ostinato.experiment.claims import disk_now

GIB, MIB = 1024**3, 1024**2
LEAST_FREE_GIB, LITTLE_FREE_GIB, LEAST_FREE_INODES = 1, 10, 10_000
SLOW_MIB_PER_SECOND, PROBE_MIB = 20, 16
CLOCK_SECONDS = 5
OLDEST_TIME = 1_750_000_000  # June 2025: no clock that is right says less
NETWORK = ("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p")
MEMORY = ("tmpfs", "ramfs")


def existing(root: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    root = root.absolute()
    return next(folder for folder in (root, *root.parents) if folder.is_dir())


def space(root: Path) -> Iterator[Answer]:
    """Free bytes and files."""
    folder = existing(root)
    free = shutil.disk_usage(folder).free / GIB
    facts = os.statvfs(folder)
    text = f"{free:,.1f} GiB free at {folder}"
    remedy = f"Free some, or put runs elsewhere: experiment.output_root. Put-aside runs: {root / '.trash'}."
    if free < LEAST_FREE_GIB:
        yield Answer("space", "problem", text, remedy)
    elif free < LITTLE_FREE_GIB:
        yield Answer("space", "warning", text, remedy)
    elif facts.f_files and facts.f_favail < LEAST_FREE_INODES:
        yield Answer("space", "warning", f"{text}, but room for {facts.f_favail:,} files only", remedy)
    else:
        yield Answer("space", "ok", text)


def kind(root: Path, mounts: Path = Path("/proc/mounts")) -> Iterator[Answer]:
    """Whether the disk is this machine's own."""
    folder, found = existing(root).resolve(), ""
    try:
        found = filesystem(folder, mounts.read_text())
    except OSError:
        yield Answer("filesystem", "ok", f"not known on this system ({folder})")
        return
    text = f"{found or 'unknown'} at {folder}"
    if found in NETWORK or found.startswith("fuse."):
        remedy = "Works, slower. Liveness of other hosts' runs is judged by heartbeats, up to 60 s late."
        yield Answer("filesystem", "warning", f"{text}: over a network", remedy)
    elif found in MEMORY:
        yield Answer(
            "filesystem", "warning", f"{text}: lost at a reboot", "Put runs on a disk: experiment.output_root."
        )
    else:
        yield Answer("filesystem", "ok", text)


def filesystem(folder: Path, mounts: str) -> str:
    """The type of the innermost mount that holds a folder, by the lines of /proc/mounts; later mounts lie on top."""
    best, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found


def speed(root: Path) -> Iterator[Answer]:
    """How fast a file of 16 MiB is safely on the disk."""
    folder = existing(root)
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    block = os.urandom(MIB)
    try:
        try:
            started = time.perf_counter()
            with open(probe, "xb") as file:
                for _ in range(PROBE_MIB):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            rate = PROBE_MIB / (time.perf_counter() - started)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        remedy = "Give yourself write permission, or put runs elsewhere: experiment.output_root."
        yield Answer("writing", "problem", f"cannot write in {folder}: {error.strerror}", remedy)
        return
    text = f"{rate:,.0f} MiB/s at {folder}"
    if rate < SLOW_MIB_PER_SECOND:
        yield Answer("writing", "warning", text, "Save less often (logging.save_interval), or use a faster disk.")
    else:
        yield Answer("writing", "ok", text)


def clock(root: Path) -> Iterator[Answer]:
    """The machine's time is plausible and the disk's own agrees with it."""
    now = time.time()
    ahead = disk_now(existing(root)) - now
    if now < OLDEST_TIME:
        text = f"it is {time.strftime('%Y-%m-%d', time.gmtime(now))} here"
        yield Answer("clock", "problem", text, "Set the machine's time; runs are dated and ordered by it.")
    elif abs(ahead) > CLOCK_SECONDS:
        text = f"the disk's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        yield Answer("clock", "warning", text, "Synchronise both (NTP); ages of files look wrong otherwise.")
    else:
        yield Answer("clock", "ok", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))} UTC, the disk agrees")
