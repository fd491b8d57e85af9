"""All runs of a folder, to choose from and to go through: `Runs("experiments").where("state=completed")`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ostinato.experiment.listing import summaries
from ostinato.experiment.run_view import RunView
from ostinato.experiment.selecting import matcher, sort_runs


class Runs:
    """The runs below a root, oldest first. It looks at the disk whenever it is gone through.

    Example:
        for run in Runs().where("algorithm=sft and validation/loss<2").sort("-validation/loss"):
            print(run.name, run.state)
    """

    def __init__(self, root: str | Path = "experiments") -> None:
        self.root = Path(root)
        self._conditions: list[Callable[[Mapping[str, Any]], bool]] = []
        self._order: str | None = None

    def where(self, expression: str) -> Runs:
        """Only those that meet a condition, as `runs list --where` has it; raises UserError for one that is none."""
        chosen = self._copy()
        chosen._conditions.append(matcher(expression))
        return chosen

    def sort(self, key: str) -> Runs:
        """By any value, smallest first; `-key` largest first."""
        chosen = self._copy()
        chosen._order = key
        return chosen

    def summaries(self) -> list[dict[str, Any]]:
        """What `runs list` knows of each: name, state, step, last values, age, ..."""
        found = [run for run in summaries(self.root) if all(holds(run) for holds in self._conditions)]
        return sort_runs(found, self._order) if self._order else found

    def __iter__(self) -> Iterator[RunView]:
        return (RunView(run["folder"]) for run in self.summaries())

    def __len__(self) -> int:
        return len(self.summaries())

    def __getitem__(self, name: str) -> RunView:
        """A run by its name; raises UserError with the nearest names."""
        return RunView(name, self.root)

    def __repr__(self) -> str:
        return f"Runs({str(self.root)!r}): {', '.join(run['name'] for run in self.summaries()) or 'none'}"

    def _copy(self) -> Runs:
        other = Runs(self.root)
        other._conditions, other._order = list(self._conditions), self._order
        return other
