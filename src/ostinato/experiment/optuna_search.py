"""What optuna would try next: asked anew from the trials that are known, so there is no state but `trials.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ostinato.core.errors import UserError
from ostinato.experiment.search_space import Axis, Choice, Parameters
from ostinato.experiment.trials import Trial


def require() -> Any:
    """The library; UserError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(f"method optuna: {error}. Install it: pip install 'ostinato[sweep]'.") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def ask(axes: Sequence[Axis], trials: Sequence[Trial], seed: int, mode: str) -> Parameters:
    """The next point: tree-structured Parzen estimator, told every trial that ended, seeded by how many there are."""
    optuna = require()
    distributions = {_name(axis): _distribution(optuna, axis) for axis in axes}
    sampler = optuna.samplers.TPESampler(seed=seed + len(trials))
    study = optuna.create_study(sampler=sampler, direction="minimize" if mode == "min" else "maximize")
    for trial in trials:
        told = _told(optuna, axes, distributions, trial)
        if told is not None:
            study.add_trial(told)
    asked = study.ask(distributions)
    found: Parameters = {}
    for axis in axes:
        value = asked.params[_name(axis)]
        row = axis.space.rows[value] if isinstance(axis.space, Choice) else (axis.space.text(value),)
        found.update(zip(axis.keys, row, strict=True))
    return found


def _name(axis: Axis) -> str:
    return ",".join(axis.keys)


def _distribution(optuna: Any, axis: Axis) -> Any:
    kinds, space = optuna.distributions, axis.space
    if isinstance(space, Choice):
        return kinds.CategoricalDistribution(range(len(space.rows)))
    kind = kinds.IntDistribution if space.whole else kinds.FloatDistribution
    return kind(space.low, space.high, log=space.log)


def _told(optuna: Any, axes: Sequence[Axis], distributions: dict[str, Any], trial: Trial) -> Any:
    """A trial as optuna knows it: with its value, as failed, or as running; None if it is of other axes."""
    params: dict[str, Any] = {}
    for axis in axes:
        row = tuple(trial.parameters.get(key) for key in axis.keys)
        try:
            if isinstance(axis.space, Choice):
                params[_name(axis)] = axis.space.rows.index(row)  # type: ignore[arg-type]
            else:
                params[_name(axis)] = int(row[0] or "") if axis.space.whole else float(row[0] or "")
        except ValueError:
            return None  # the sweep file was changed
    states, value = optuna.trial.TrialState, trial.objective
    if trial.ended is None:
        state = states.RUNNING
    else:
        state = states.FAIL if value is None or not math.isfinite(value) else states.COMPLETE
    try:
        return optuna.trial.create_trial(
            state=state, params=params, distributions=distributions, value=value if state == states.COMPLETE else None
        )
    except ValueError:
        return None  # outside of changed bounds
