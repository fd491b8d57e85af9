"""Who owns a run: numbered segment files are the lock, and nothing of them is ever unlinked or reused.

Claiming segment n+1 is creating its file, which exactly one process can; so there is no lock to break and no race.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import fsync_folder

HEARTBEAT_TRUSTED_SECONDS = 60.0
SEGMENT_NAME = re.compile(r"segment_(\d{5,})\.json")


def segment_path(folder: Path, number: int) -> Path:
    """Where the claim of a segment lies in a run folder."""
    return folder / "provenance" / f"segment_{number:05d}.json"


def newest_segment(folder: Path) -> tuple[int, dict[str, Any]]:
    """Number and content of the newest claim; -1 if there is none, an empty content if it cannot be read."""
    try:
        entries = os.listdir(folder / "provenance")
    except OSError:
        return -1, {}
    numbers = [int(match[1]) for entry in entries if (match := SEGMENT_NAME.fullmatch(entry))]
    if not numbers:
        return -1, {}
    try:
        segment = json.loads(segment_path(folder, max(numbers)).read_bytes())
    except (OSError, ValueError):
        segment = {}
    return max(numbers), segment if isinstance(segment, dict) else {}


@functools.cache
def machine() -> tuple[str, str]:
    """Host name, and what a process id is valid in: this boot and, in containers, this space of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        answer = subprocess.run(["sysctl", "-n", "kern.boottime"], capture_output=True, text=True)
        return socket.gethostname(), answer.stdout.strip()
    return socket.gethostname(), f"{boot} {space}"


def process_start(pid: int) -> str | None:
    """When a process began, in its machine's own terms; None if it does not exist or is a zombie."""
    try:
        # the second field is the command in brackets, which may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
        state, _, began = answer.stdout.strip().partition(" ")
        return began.strip() if state and not state.startswith("Z") else None
    return None if fields[0] in "ZX" else fields[19]


def this_process() -> dict[str, Any]:
    """The fields of a segment by which others can tell whether its owner is alive."""
    host, boot = machine()
    return {"pid": os.getpid(), "process_start": process_start(os.getpid()), "host": host, "boot_id": boot}


def is_alive(folder: Path, number: int, segment: Mapping[str, Any], *, clock_folder: Path | None = None) -> bool:
    """Whether the owner of a segment lives: by its process on this machine, elsewhere by a heartbeat below 60 s old.

    `clock_folder`: where to write the file whose mtime is "now" for the disk that also stamped the heartbeat.
    """
    host, boot = machine()
    if segment.get("host") == host and segment.get("boot_id") == boot and isinstance(segment.get("pid"), int):
        return process_start(segment["pid"]) == segment.get("process_start")
    if segment.get("boot_id") and segment.get("host") == host and _same_space(segment["boot_id"], boot):
        return False  # this machine, before its last boot
    stamps = [_mtime(folder / "status.json"), _mtime(segment_path(folder, number))]
    newest = max((stamp for stamp in stamps if stamp is not None), default=None)
    return newest is not None and disk_now(clock_folder or folder) - newest < HEARTBEAT_TRUSTED_SECONDS


def _same_space(theirs: str, ours: str) -> bool:
    """Equal spaces of process ids with another boot: the host's own, which has a fixed number, never a container's."""
    return theirs.partition(" ")[2] == ours.partition(" ")[2] == "pid:[4026531836]"


def disk_now(folder: Path) -> float:
    """The present by the clock of the disk: the mtime of a file just written (ours where it cannot be written)."""
    probe = folder / f".clock-{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()
    except OSError:
        return time.time()


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def claim(folder: Path, number: int, segment: Mapping[str, Any]) -> bool:
    """Create segment `number`, whole and durable; False if another process has it already."""
    path = segment_path(folder, number)
    text = json.dumps(segment, indent=1, ensure_ascii=False).encode() + b"\n"
    temporary = path.with_name(f".segment-{uuid.uuid4().hex}")
    try:
        _write_new(temporary, text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if temporary.stat().st_nlink != 2:  # 2: a network disk repeated our own success
                return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            try:
                _write_new(path, text)
            except FileExistsError:
                return False
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)
    return True


def _write_new(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def check_fence(folder: Path, number: int) -> None:
    """Raise RefusedError if a newer segment exists: this process was declared dead and must write nothing more."""
    if not os.path.exists(segment_path(folder, number + 1)):
        return
    _, newer = newest_segment(folder)
    raise RefusedError(
        f"{folder.name} was taken over by process {newer.get('pid')} on {newer.get('host')} at {newer.get('started')}: "
        "this process writes nothing more. If that was not intended, stop the other one and --resume."
    )
