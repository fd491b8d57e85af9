"""The file of a sweep: which config, which parameters, how they are chosen, what is wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ostinato.core.errors import UserError
from ostinato.core.mistakes import nearest
from ostinato.experiment.search_space import Axis, Choice, Interval

METHODS = ("grid", "random", "optuna")
KEYS = ("config", "method", "parameters", "zip", "objective", "seed", "slurm")
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class SweepFile:
    """A sweep as asked for. `trials` is null for a grid, which has as many as it has."""

    path: Path
    text: str
    config: str
    axes: tuple[Axis, ...]
    method: str = "grid"
    metric: str = "validation/loss"
    mode: str = "min"
    trials: int | None = None
    seed: int = 0
    slurm: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's name without its suffix: that of the folder, and the start of every child's."""
        return self.path.stem


def read_sweep(path: Path) -> SweepFile:
    """Read and check a sweep file; raises UserError naming the line and the remedy."""
    try:
        text = path.read_text("utf-8")
        root = yaml.compose(text, Loader=Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Give the path of a sweep file.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    return Reading(path, text).sweep(root)


class Reading:
    """A sweep file while it is read: values stay as they are spelled."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def wrong(self, node: yaml.Node, message: str) -> UserError:
        """A mistake at a node's line."""
        return UserError(f"{self.path}:{node.start_mark.line + 1}: {message}")

    def sweep(self, root: yaml.Node | None) -> SweepFile:
        if not isinstance(root, yaml.MappingNode):
            raise UserError(f"{self.path}: expected a map with config and parameters.")
        nodes = self.map(root, KEYS)
        for key in ("config", "parameters"):
            if key not in nodes:
                raise UserError(f"{self.path}: no {key}. A sweep names a config and the parameters to vary.")
        plain = yaml.load(self.text, Loader=Loader)
        method = plain.get("method", "grid")
        if method not in METHODS:
            raise self.wrong(nodes["method"], f"method: {method!r}. Write one of {', '.join(METHODS)}.")
        objective = plain.get("objective") or {}
        if "objective" in nodes:
            self.check_objective(nodes["objective"], objective)
        if method != "grid" and "trials" not in objective:
            raise UserError(f"{self.path}: method {method} needs a number of trials: objective: {{..., trials: 20}}.")
        if method == "grid":
            objective = {key: value for key, value in objective.items() if key != "trials"}
        if not isinstance(plain.get("seed", 0), int):
            raise self.wrong(nodes["seed"], f"seed: {plain['seed']!r}. Write a whole number.")
        if not isinstance(plain["config"], str):
            raise self.wrong(nodes["config"], "config: expected the path of one config.")
        if "slurm" in nodes:
            self.map(nodes["slurm"])
        slurm = {str(key): str(value) for key, value in (plain.get("slurm") or {}).items()}
        axes = self.axes(nodes["parameters"], nodes.get("zip"), method)
        options = {"seed": plain.get("seed", 0), "slurm": slurm, **objective}
        return SweepFile(self.path, self.text, plain["config"], axes, method, **options)

    def check_objective(self, node: yaml.Node, objective: Any) -> None:
        """A metric's name, min or max, how many."""
        self.map(node, ("metric", "mode", "trials"))
        if not isinstance(objective.get("metric", ""), str):
            raise self.wrong(node, "objective.metric: expected a metric's name, such as validation/loss.")
        if objective.get("mode", "min") not in ("min", "max"):
            raise self.wrong(node, f"objective.mode: {objective['mode']!r}. Write min or max.")
        trials = objective.get("trials", 1)
        if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
            raise self.wrong(node, f"objective.trials: {trials!r}. Write a whole number above 0.")

    def map(self, node: yaml.Node, known: tuple[str, ...] = ()) -> dict[str, yaml.Node]:
        """The entries of a map, each key once and, if any are `known`, one of those."""
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, "expected a map. Write {...}.")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if known and key.value not in known:
                guess = nearest(key.value, known)
                hint = f"Did you mean {guess}?" if guess else f"Known: {', '.join(known)}."
                raise self.wrong(key, f"unknown key {key.value!r}. {hint}")
            if key.value in found:
                raise self.wrong(key, f"{key.value} is written twice. Remove one.")
            found[key.value] = value
        return found

    def axes(self, parameters: yaml.Node, together: yaml.Node | None, method: str) -> tuple[Axis, ...]:
        """The axes in the order of the parameters; those of a `zip` group are one, at its first key's place."""
        nodes = self.map(parameters)
        if not nodes:
            raise self.wrong(parameters, "no parameters. Write KEY: [value, ...].")
        spaces = {key: self.space(key, node, method) for key, node in nodes.items()}
        groups = {key: group for group in self.groups(together, spaces) for key in group}
        axes: dict[tuple[str, ...], Axis] = {}
        for key, space in spaces.items():
            keys = groups.get(key, (key,))
            if keys not in axes and len(keys) > 1:
                rows = [[row[0] for row in spaces[one].corners] for one in keys]
                if len({len(texts) for texts in rows}) > 1:
                    raise self.wrong(nodes[key], f"zip: {', '.join(keys)} have lists of different lengths.")
                space = Choice(tuple(zip(*rows, strict=True)))
            axes.setdefault(keys, Axis(keys, space))
        return tuple(axes.values())

    def groups(self, node: yaml.Node | None, spaces: dict[str, Choice | Interval]) -> list[tuple[str, ...]]:
        """The `zip` groups: lists of two or more parameters, each a list of values."""
        if node is None:
            return []
        found: list[tuple[str, ...]] = []
        for group in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(group, yaml.SequenceNode) or len(group.value) < 2:
                raise self.wrong(group, "zip: expected groups of parameters. Write [[a.x, b.y]].")
            keys = tuple(str(item.value) for item in group.value)
            for key in keys:
                if not isinstance(spaces.get(key), Choice):
                    raise self.wrong(group, f"zip: {key} is no parameter with a list of values.")
                if any(key in other for other in found) or keys.count(key) > 1:
                    raise self.wrong(group, f"zip: {key} is named twice.")
            found.append(keys)
        return found

    def space(self, key: str, node: yaml.Node, method: str) -> Choice | Interval:
        """`[..]`, `{choice: [..]}`, `{integer: [a, b]}`, `{uniform: [a, b]}`, the last two with `log: true`."""
        if isinstance(node, yaml.SequenceNode):
            return self.choice(key, node)
        forms = self.map(node, ("integer", "uniform", "choice", "log"))
        kinds = [kind for kind in forms if kind != "log"]
        if len(kinds) != 1 or ("log" in forms and kinds == ["choice"]):
            raise self.wrong(node, f"{key}: write one of [..], {{choice: [..]}}, {{integer: [a, b], log: true}}, "
                             "{uniform: [a, b]}.")  # fmt: skip
        bounds = forms[kinds[0]]
        if kinds == ["choice"]:
            return self.choice(key, bounds)
        if method == "grid":
            raise self.wrong(node, f"{key}: a grid wants a list of values. Write one, or method: random.")
        log = "log" in forms and str(forms["log"].value).lower() == "true"
        try:
            number = int if kinds == ["integer"] else float
            low, high = (number(item.value) for item in bounds.value)
            if not low < high or (log and low <= 0):
                raise ValueError
        except (TypeError, ValueError):
            rule = "0 < a < b" if log else "a < b"
            raise self.wrong(node, f"{key}: {kinds[0]} wants two numbers [a, b] with {rule}.") from None
        return Interval(low, high, log, kinds == ["integer"])

    def choice(self, key: str, node: yaml.Node) -> Choice:
        """The values of a list, as spelled."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.wrong(node, f"{key}: expected a list of values with at least one.")
        return Choice(tuple((self.spelled(item),) for item in node.value))

    def spelled(self, node: yaml.Node) -> str:
        """A value as an `-o` takes it."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            raise self.wrong(node, "a value that is a list or map: write it in one line, [...] or {...}.")
        return self.text[node.start_mark.index : node.end_mark.index].strip()
