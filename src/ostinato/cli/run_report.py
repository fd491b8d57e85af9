"""The report that a run, a chain of runs or a sweep leaves when it is done; written afterwards, it can fail nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

MOST_BYTES = 100_000_000  # of rows; more are read when somebody asks for it


def report_of(folders: Sequence[Path], path: Path | None = None) -> Path | None:
    """Write the report of completed runs, at `path` or where reports lie; None, with one warning, if that cannot be."""
    names = " ".join(map(str, folders))
    try:
        from ostinato.experiment.report import write_report

        size = sum(file.stat().st_size for folder in folders if (file := folder / "logs" / "metrics.jsonl").exists())
        if size > MOST_BYTES:
            raise ValueError(f"its {size / 1e6:.0f} MB of rows take a while; ostinato runs report {names}")
        return write_report(folders, path)
    except Exception as error:
        print(f"warning: no report was written: {error}", file=sys.stderr, flush=True)
        return None
