"""Weights & Biases, online or as files that `wandb sync` sends later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ostinato.core.errors import UserError
from ostinato.core.registry import TRACKERS
from ostinato.experiment.tracker_rows import scalars

FINISH_SECONDS = 8.0  # to send what is left: below what a run waits for its trackers


@TRACKERS.register("wandb")
class WeightsAndBiases:
    """A run at Weights & Biases (pip install 'ostinato[wandb]'), with wandb's step = ours.

    `mode`: null is as WANDB_MODE says, else online. A resume goes on with the same run: online it is rewound to the
    step that it resumes from; offline its files are a second part of the run, of the same id. The account's key is
    taken from WANDB_API_KEY or `wandb login`, never from a config. What wandb would record by itself (command line,
    code, git, packages) is not: the run folder has it, without secrets.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        *,
        project: str = "ostinato",
        entity: str | None = None,
        group: str | None = None,
        mode: Literal["online", "offline"] | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError(f"tracker wandb: {error}. Install it: pip install 'ostinato[wandb]'.") from error
        remote = run.get("remote") or {}
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        recorded_by_us = {"save_code": False, "disable_code": True, "disable_git": True, "x_disable_meta": True}
        recorded_by_us |= {"x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False}
        settings = wandb.Settings(silent=True, console="off", finish_timeout=FINISH_SECONDS, **recorded_by_us)
        offline = (mode or wandb.setup().settings.mode) == "offline"
        again: dict[str, Any] = {"id": run["id"]}
        if remote and not offline:
            again = {"resume_from": f"{remote['id']}?_step={run['resumed_from'] or 0}"}
        self._run = wandb.init(
            project=remote.get("project", project),
            entity=remote.get("entity", entity),
            name=run["name"],
            group=group,
            mode=mode,
            dir=str(folder / "logs"),
            config={"ostinato": {key: run[key] for key in ("name", "id", "segment")}, **run.get("config", {})},
            settings=settings,
            **again,
        )
        self.remote = {"id": self._run.id, "project": self._run.project, "entity": self._run.entity or None}
        self.remote["url"] = None if offline else self._run.url
        self._step = 0

    def log(self, row: dict[str, Any]) -> None:
        """The numbers of a row at its step; a row of an earlier step (machine load) at the latest one."""
        self._step = max(self._step, row["step"])
        if values := scalars(row):
            self._run.log(values, step=self._step)

    def close(self) -> None:
        """Send what is left, for eight seconds; `wandb sync` sends the rest."""
        self._run.finish()
