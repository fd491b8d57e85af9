"""What the machine is doing, for `system` rows: load, memory, disk (Linux; elsewhere what there is)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

GIB = 1024**3


def machine_load(folder: Path) -> dict[str, float]:
    """Load of the machine, memory of machine and process, free space where the run is written."""
    facts: dict[str, float] = {"load": round(os.getloadavg()[0], 2)}
    facts["disk_free_gib"] = round(shutil.disk_usage(folder).free / GIB, 3)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        facts["host_memory_gib"] = round(pages * os.sysconf("SC_PAGE_SIZE") / GIB, 3)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return facts
    for line in lines:
        if line.startswith("MemAvailable:"):
            facts["memory_available_gib"] = round(int(line.split()[1]) * 1024 / GIB, 3)
    return facts
