"""`<root>/<name>.sweep/`: the sweep's file, its code, the config of each child, and `trials.jsonl`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostinato.core.config import ConfigError, load_config
from ostinato.core.errors import RefusedError, UserError
from ostinato.experiment.naming import check_name
from ostinato.experiment.search_space import Parameters
from ostinato.experiment.submission import RECORD, Place, project_root, read_submission
from ostinato.experiment.submitting import open_submission
from ostinato.experiment.sweep_file import SweepFile
from ostinato.experiment.trials import Trial, Trials


class SweepFolder:
    """A sweep on disk. `open` makes it with the code of this moment; later starts find the code of then."""

    def __init__(self, path: Path, sweep: SweepFile, submission: dict[str, Any]) -> None:
        self.path, self.sweep, self.root = path, sweep, path.parent
        self.place = Place(path, submission)

    @classmethod
    def here(cls, sweep: SweepFile) -> SweepFolder:
        """What is there, and if it is not, the code as it is: to check configs before anything is written."""
        path, plugins = find(sweep)
        if path.exists():
            return cls(path, sweep, read_submission(path))
        return cls(path, sweep, {"cwd": str(Path.cwd()), "project": project_root(), "plugins": plugins, "code": []})

    @classmethod
    def open(cls, sweep: SweepFile) -> SweepFolder:
        """The folder, made whole under a private name if it is not there. Nothing runs yet."""
        path, plugins = find(sweep)
        submission = open_submission(path, plugins)
        return cls(path, sweep, submission)

    def keep_file(self) -> None:
        """The file as asked for now; one that differs from the last is kept beside it as NAME.1, NAME.2, ..."""
        own = self.path / self.sweep.path.name
        if own.exists() and own.read_text("utf-8") == self.sweep.text:
            return
        if own.exists():
            number = next(n for n in range(1, 1_000_000) if not own.with_name(f"{own.name}.{n}").exists())
            os.rename(own, own.with_name(f"{own.name}.{number}"))
        own.write_text(self.sweep.text, "utf-8")

    def trials(self) -> Trials:
        """`trials.jsonl`, ours alone until closed."""
        return Trials(self.path / "trials.jsonl")

    def resolve(self, points: Sequence[Parameters]) -> list[dict[str, Any]]:
        """{name, science, yaml} of the run of each point, checked by the submitted code; UserError with all
        mistakes."""
        root = f"experiment.output_root={self.root}"
        children = [[f"{key}={text}" for key, text in point.items()] + [root] for point in points]
        place, sweep = self.place, self.sweep
        where = {"submitted_from": str(place.submitted_from), "project": place.project}
        request = {"config": sweep.config, **where, "children": children}
        with tempfile.TemporaryDirectory(prefix="ostinato-sweep-") as scratch:
            answer = Path(scratch) / "answer.json"
            done = subprocess.run(
                [sys.executable, "-m", "ostinato.experiment.sweep_resolve", str(answer)],
                input=json.dumps(request), text=True, capture_output=True, cwd=self.place.cwd, start_new_session=True,
                env=self.place.environ(),
            )  # fmt: skip
            if done.returncode != 0:
                raise RefusedError(f"the configs could not be resolved in {self.place.cwd}:\n{done.stderr.strip()}")
            found = json.loads(answer.read_text("utf-8"))
        if mistakes := found["mistakes"]:
            count = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}; nothing was run."
            raise UserError("\n".join([*mistakes, count]))
        return [{"name": f"{self.sweep.name}-{child['science'][:8]}", **child} for child in found["children"]]

    def keep_config(self, child: dict[str, Any]) -> None:
        """The frozen config that a child is started with."""
        own = self.path / "configs" / f"{child['name']}.yaml"
        temporary = own.with_name(f".new-{uuid.uuid4().hex}")
        temporary.write_text(child["yaml"], "utf-8")
        os.replace(temporary, own)

    def command(self, trial: Trial) -> list[str]:
        """What runs a trial, or goes on with it."""
        config = self.path / "configs" / f"{trial.name}.yaml"
        return [
            sys.executable, "-m", "ostinato", "train", str(config), "--resume", "--name", trial.name,
            "-o", f"experiment.output_root={self.root}", "--sweep", str(self.path),
        ]  # fmt: skip


def find(sweep: SweepFile) -> tuple[Path, tuple[str, ...]]:
    """`<root>/<file name>.sweep`, absolute, and the config's plugins; UserError if children could not be called so."""
    try:
        check_name(f"{sweep.name}-12345678")
    except UserError:
        raise UserError(
            f"{sweep.path}: its runs would be called {sweep.name}-..., which is no name for a run. Rename the file: "
            "letters, digits, . _ -, at most 90, beginning with a letter or digit."
        ) from None
    usual = Path("experiments", f"{sweep.name}.sweep").absolute()
    try:
        config = load_config(sweep.config)
    except ConfigError:
        if (usual / RECORD).exists():  # edited since; what counts is the config of the submission
            return usual, ()
        raise
    path = (config.experiment.output_root / f"{sweep.name}.sweep").absolute()
    if path.exists() and not (path / RECORD).exists():
        raise UserError(f"{path} is no folder of a sweep. Rename the sweep's file, or put that folder aside.")
    return path, tuple(config.plugins)
