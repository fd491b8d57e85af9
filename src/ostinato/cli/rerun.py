"""A rerun while it lasts: a process whose rows are compared as they come, and which is asked to stop when it can."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.experiment.reading import parse_rows
from ostinato.experiment.row_differences import RowDifference, Tolerance, row_differences

POLL_SECONDS = 0.05
SAID_SECONDS = 10.0
SAVING_SECONDS = 600.0
LAST_WORDS = 15  # lines
Row = dict[str, Any]
Key = tuple[int, str]


class Rerun:
    """`ostinato ARGUMENTS` in a folder of its own; what it prints goes to `log`."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, variables: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        self.folder, self.log, self.stopped = folder, log, False
        self.last_step = 0
        self._place, self._rest = 0, b""
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ostinato", *arguments],
                cwd=cwd,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours; we pass on that it shall stop
            )

    def __enter__(self) -> Rerun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.stop()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait_for_birth(self) -> bool:
        """Until the run folder is there, whole; False if the process ended without one."""
        while not (self.folder / "metadata.json").is_file():
            if self.exit_code is not None:
                return (self.folder / "metadata.json").is_file()
            time.sleep(POLL_SECONDS)
        return True

    def follow(
        self,
        written: Mapping[Key, Sequence[Row]],
        stop_at: int | None,
        tolerance: Tolerance | None,
        say: Callable[[str], None],
    ) -> None:
        """Wait until it ended; ask it to stop once step `stop_at` is done, or once a row lies beyond the `tolerance`.

        `written`: all rows of the original by step and kind; a step that was done twice has two.
        """
        wanted, seen = {key for key in written if key[0] == stop_at and key[1] in ("train", "eval")}, set()
        parted, due = False, time.monotonic() + SAID_SECONDS
        while True:
            ended = self.exit_code is not None
            for row in self._new_rows():
                seen.add((row["step"], row["kind"]))
                found = nearest_differences(written.get((row["step"], row["kind"]), ()), row)
                if found and not parted:
                    parted = True
                    say(difference_text(found[0]))
                if tolerance is not None and any(not tolerance.near(one.a, one.b) for one in found):
                    self.stop()
            if stop_at is not None and (wanted <= seen or self.last_step > stop_at):
                self.stop()
            if ended:
                return
            if self.last_step and time.monotonic() >= due:
                due = time.monotonic() + SAID_SECONDS
                say(f"step {self.last_step}: {'parted' if parted else 'equal so far'}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ask it to save and end, and wait for that."""
        if self.stopped or self.exit_code is not None:
            return
        self.stopped = True
        self._process.terminate()
        try:
            self._process.wait(SAVING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_WORDS:])

    def _new_rows(self) -> list[Row]:
        """The train and eval rows since the last call."""
        try:
            with (self.folder / "logs" / "metrics.jsonl").open("rb") as file:
                file.seek(self._place)
                data = file.read()
        except FileNotFoundError:
            return []
        self._place += len(data)
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        rows = [row for row in parse_rows(whole + newline) if row["kind"] in ("train", "eval")]
        self.last_step = max([self.last_step, *(row["step"] for row in rows if row["kind"] == "train")])
        return rows


def nearest_differences(candidates: Sequence[Row], row: Row) -> list[RowDifference]:
    """None if the row equals one of the original's of that step, else what differs from the last of them."""
    found = [row_differences(candidate, row) for candidate in candidates]
    return found[-1] if found and all(found) else []


def difference_text(one: RowDifference) -> str:
    """Where two runs part: `step 3: loss 1.25 was 1.5`."""
    kind = "" if one.kind == "train" else f" ({one.kind})"
    return f"step {one.step}{kind}: {one.field} is {one.b}, and was {one.a}"
