"""MLflow, at a server or as a folder of files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.registry import TRACKERS
from ostinato.experiment.tracker_rows import scalars

REFUSED = re.compile(r"[^\w\-. :/]")  # in the names of metrics and parameters
LONGEST_VALUE = 6000
BATCH = 100  # parameters that a server takes at once


@TRACKERS.register("mlflow")
class MLflow:
    """A run at MLflow (pip install 'ostinato[mlflow]').

    `tracking_uri`: null is as MLFLOW_TRACKING_URI says, else files in `mlruns` beside the runs. A resume goes on with
    the same run; MLflow cannot take values back, so steps that are computed again are there twice, the later ones
    with the later time.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        *,
        experiment: str = "ostinato",
        tracking_uri: str | None = None,
    ) -> None:
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"file://{folder.parent.absolute()}/mlruns"
        if uri.startswith(("file:", "/", ".")):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        try:
            from mlflow.entities import Metric, Param, RunTag
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise UserError(f"tracker mlflow: {error}. Install it: pip install 'ostinato[mlflow]'.") from error
        self._metric = Metric
        remote = run.get("remote") or {}
        self._client = MlflowClient(remote.get("tracking_uri", uri))
        if remote:
            self._id = remote["id"]
            self._client.update_run(self._id, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name(experiment)
            try:
                number = found.experiment_id if found else self._client.create_experiment(experiment)
            except MlflowException:  # another run made it just now
                number = self._client.get_experiment_by_name(experiment).experiment_id
            tags = {"ostinato.run": run["name"], "ostinato.id": run["id"]}
            self._id = self._client.create_run(number, tags=tags, run_name=run["name"]).info.run_id
            leaves = run.get("config", {}).items()
            params = [Param(REFUSED.sub("_", key), str(value)[:LONGEST_VALUE]) for key, value in leaves]
            for start in range(0, len(params), BATCH):
                self._client.log_batch(self._id, params=params[start : start + BATCH])
        self._client.log_batch(self._id, tags=[RunTag("ostinato.segment", str(run["segment"]))])
        self.remote = {"id": self._id, "tracking_uri": remote.get("tracking_uri", uri)}

    def log(self, row: dict[str, Any]) -> None:
        """The numbers of a row, at its step and time."""
        milliseconds = round(row["time"] * 1000)
        metrics = [self._metric(REFUSED.sub("_", k), v, milliseconds, row["step"]) for k, v in scalars(row).items()]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)
