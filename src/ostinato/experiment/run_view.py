"""A run, for reading from Python: `ostinato.Run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import UserError
from ostinato.experiment.finding import find_run
from ostinato.experiment.reading import (
    Row,
    counting,
    number,
    read_json,
    read_or_empty,
    read_rows,
    state_of,
    tail_rows,
)

if TYPE_CHECKING:
    import numpy
    import pandas


class RunView:
    """A run by its name below `root`, or by its folder; needs no lock, works on a copy and while it runs.

    Example:
        run = Run("exp001")
        run.state, run.step, run.metrics()["loss"][-1]
    """

    def __init__(self, name: str | Path, root: str | Path = "experiments") -> None:
        self.folder = find_run(str(name), Path(root))

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): {self.state}, step {self.step}"

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def metadata(self) -> dict[str, Any]:
        """`metadata.json`."""
        return read_json(self.folder / "metadata.json")

    @property
    def status(self) -> dict[str, Any]:
        """`status.json`; {} if it cannot be read."""
        return read_or_empty(self.folder / "status.json")

    @property
    def state(self) -> str:
        """created, running, completed, failed, interrupted, preempted or lost."""
        return state_of(self.folder)

    @property
    def config(self) -> Any:
        """The frozen config."""
        from ostinato.core.config import load_config

        return load_config(self.folder / "config.yaml")

    @property
    def step(self) -> int:
        """The last step of a row that counts, else what the status says."""
        steps = [row["step"] for row in counting(tail_rows(self.folder)) if row["kind"] == "train"]
        return steps[-1] if steps else self.status.get("step", 0)

    def history(self) -> list[Row]:
        """Every line as written."""
        return read_rows(self.folder)

    def metrics(self, kind: str = "train") -> dict[str, numpy.ndarray]:
        """Columns of the rows that count: `step` and every number, NaN where a row has none; (rows,) each."""
        import numpy

        rows = [row for row in counting(read_rows(self.folder)) if row["kind"] == kind]
        skipped = ("kind", "step", "segment", "time", "data", "perf")
        names = dict.fromkeys(name for row in rows for name in row if name not in skipped)
        columns = {name: numpy.array([number(row.get(name)) for row in rows]) for name in names}
        return {"step": numpy.array([row["step"] for row in rows], dtype=numpy.int64), **columns}

    def checkpoints(self) -> list[dict[str, Any]]:
        """Each checkpoint: `name`, `step`, `bytes`, `created`, `metrics`, `pinned_by`, and `problem` if damaged."""
        from ostinato.experiment.checkpoints import listed

        return listed(self.folder)

    def samples(self, step: int | None = None) -> list[Row]:
        """What it sampled at a step, the newest by default: rows with `response` and `score`, or with `text` alone."""
        from ostinato.experiment.samples import kept_samples

        kept = {one.step: one for one in kept_samples(self.folder)}
        if step is None:
            return kept[max(kept)].read() if kept else []
        if step not in kept:
            raise UserError(
                f"{self.name} kept no samples at step {step}, but at {', '.join(map(str, kept)) or 'none'}."
            )
        return kept[step].read()

    def to_pandas(self, kind: str = "train") -> pandas.DataFrame:
        """`metrics` as a table, if pandas is installed."""
        import pandas

        return pandas.DataFrame(self.metrics(kind))
