"""How a run is reproduced, read top to bottom: integrity, environment, code, the rerun, the comparison, the record."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.cli.reproduction_checks import check_birth, check_integrity, check_parent, present_environment
from ostinato.cli.reproduction_report import judged
from ostinato.cli.rerun import Rerun
from ostinato.core.errors import OstinatoError, RefusedError, UserError
from ostinato.core.manifest import write_json
from ostinato.data.fetched import pins
from ostinato.experiment import differences as found
from ostinato.experiment.drift import environment_drift, install_line, rerun_variables
from ostinato.experiment.reading import read_or_empty, read_rows
from ostinato.experiment.rerun_folder import adopt_record, begin_at_checkpoint, claim_name
from ostinato.experiment.row_differences import Tolerance, compare_rows, rows_of
from ostinato.experiment.trash import put_aside
from ostinato.experiment.workplace import Workplace, code_here, recorded_code

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What was asked: `begin` is the step of the checkpoint to begin at, 0 for the run's own beginning."""

    run: Path
    steps: int | None
    begin: int
    require: str | None
    allow_drift: bool
    current_code: bool
    full: bool
    tolerance: Tolerance
    overrides: tuple[str, ...]


class Reproduction:
    """One reproduction of one run. Raises RefusedError (exit 3) for what cannot be tried."""

    def __init__(self, request: Request, say: Say) -> None:
        self.request, self.say, self.run = request, say, request.run
        if any(override.startswith(("experiment.name", "experiment.output_root")) for override in request.overrides):
            raise UserError("-o: a rerun's name and place are its own: <name>-repro-<n>, beside the run.")
        check_integrity(self.run)
        self.metadata, self.config = found.metadata_of(self.run), found.frozen_config(self.run)
        self.original = rows_of(self.run)
        self.last = max((step for step, kind in self.original if kind == "train"), default=0)
        self.until = min(request.steps or self.last, self.last)
        if self.until <= request.begin:
            raise RefusedError(f"{self.run.name}: no step after {request.begin} to compare; its last is {self.last}.")
        self.before = read_or_empty(self.run / "provenance" / "environment.json")
        self.world = read_or_empty(self.run / "provenance" / "segment_00000.json").get("world") or {}
        self.drift = self._drift()
        self.folder, self.number = self.run, 0  # until it is claimed

    def _drift(self) -> list[found.Difference]:
        """What differs from the recorded environment; RefusedError unless that is allowed."""
        if not self.before:
            raise RefusedError(f"{self.run.name}: its environment was not recorded.")
        drift = environment_drift(self.before, present_environment(self.config, self.metadata, self.world))
        if drift and not self.request.allow_drift:
            lines = [f"  {entry['name']}: {entry.get('a')} then, {entry.get('b', 'none')} now" for entry in drift]
            mend = install_line(drift)
            raise RefusedError(
                f"{self.run.name}: the environment is not the recorded one:\n" + "\n".join(lines) + "\n"
                f"{f'Mend it: {mend}' if mend else 'No package mends it.'}\nOr go on: --allow-environment-drift."
            )
        return drift

    def arguments(self) -> list[str]:
        """What `ostinato` is called with: the frozen config, with another name and place only."""
        place = ["--name", self.folder.name, "-o", f"experiment.output_root={self.folder.parent}"]
        frozen = [str(self.run / "config.yaml")]
        if self.request.begin:
            begin_at_checkpoint(self.run, self.request.begin, self.folder, sys.argv)
            frozen = ["--resume"]
        changes = [*self._pinned_origin(), *self._pinned_data(), *self.request.overrides]
        options = [*frozen, *place, *(word for change in changes for word in ("-o", change))]
        if self.world.get("strategy", "single") == "single":
            return ["train", *options]
        return ["launch", "--nproc", str(self.world["size"]), *options]

    def _pinned_origin(self) -> list[str]:
        """`run:NAME` means the newest checkpoint: the one that was taken then is asked for by its step."""
        parent, named = (self.metadata.get("lineage") or {}).get("init_from"), self.config["model"]["init_from"]
        changed = any(override.startswith("model.init_from") for override in self.request.overrides)
        if not parent or changed or self.request.begin:
            return []
        check_parent(self.run.parent, named, parent)
        return [f"model.init_from={named}@{parent['step']}"] if named.startswith("run:") and "@" not in named else []

    def _pinned_data(self) -> list[str]:
        """A branch of a hub may have moved on: the commits that were fetched then are asked for."""
        return [] if self.request.begin else pins((self.metadata.get("data") or {}).get("origins") or {})

    def workplace(self, scratch: Path) -> Workplace:
        """The restored code, or what is here."""
        if self.request.current_code:
            return code_here()
        return recorded_code(self.run, self.config, Path(self.metadata["cwd"]), scratch / "code")

    def rerun(self, place: Workplace, scratch: Path) -> None:
        """Run it and compare while it runs; RefusedError if it cannot be tried, OstinatoError if it fails."""
        self.folder, self.number = claim_name(self.run)
        request, threads = self.request, self.before.get("threads", {}).get("intra")
        threads = None if self.config["training"]["threads"] else threads
        variables = rerun_variables(self.before, threads, place.python_path)
        written: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for row in read_rows(self.run):
            written.setdefault((row["step"], row["kind"]), []).append(row)
        ends_there = self.until == self.last and read_or_empty(self.run / "status.json").get("state") == "completed"
        with Rerun(self.arguments(), place.folder, variables, self.folder, scratch / "output") as rerun:
            if not rerun.wait_for_birth():
                error = UserError if request.overrides and rerun.exit_code == 2 else RefusedError
                raise error(f"the rerun could not begin:\n{rerun.last_words()}")
            self.say(f"rerun {self.folder}: {self.until - request.begin} steps")
            if not request.overrides:
                self._check_birth(rerun)
            rerun.follow(
                written, None if ends_there else self.until, None if request.full else request.tolerance, self.say
            )
        if self._has_answer():
            return
        if rerun.exit_code in (0, 75):
            raise OstinatoError(f"{self.folder} ended at step {rerun.last_step}, and step {self.until} was wanted.")
        failure = RefusedError if rerun.exit_code == 3 else OstinatoError
        raise failure(f"the rerun failed (exit code {rerun.exit_code}):\n{rerun.last_words()}")

    def _check_birth(self, rerun: Rerun) -> None:
        """Stop a rerun that reads something else, and put it aside: it answers nothing."""
        try:
            check_birth(self.run, self.metadata, found.metadata_of(self.folder), self.config)
        except RefusedError:
            rerun.stop()
            put_aside(self.folder, force=True)
            raise

    def _has_answer(self) -> bool:
        """Whether the rows that there are decide: all that were asked for, or some beyond tolerance."""
        rows = rows_of(self.folder)
        done = (self.until, "train") in rows
        return done or compare_rows(self.original, rows, self.request.tolerance).first_beyond is not None


def reproduce(request: Request, scratch: Path, say: Say) -> dict[str, Any]:
    """Reproduce a run and record the outcome in both; the report."""
    one = Reproduction(request, say)
    place = one.workplace(scratch)
    try:
        one.rerun(place, scratch)
    finally:  # an interrupted one says what it was, too
        if one.number and (one.folder / "metadata.json").is_file():
            adopt_record(one.run, one.folder, code=not request.current_code)
        elif one.number:
            with contextlib.suppress(OSError):
                one.folder.rmdir()  # nothing came of it
    report = judged(one, place)
    for folder in (one.folder, one.run):
        try:
            write_json(folder / "provenance" / f"reproduction_{one.number}.json", report)
        except OSError as error:
            say(f"warning: {folder} keeps no record of this: {error.strerror}")
    return report
