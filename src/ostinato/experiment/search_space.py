"""What a sweep varies: axes, each a list of choices or an interval, drawn from by seed, index and name alone."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ostinato.core.seeding import key

Parameters = dict[str, str]  # config key -> value as an `-o` spells it
DIGITS = 6  # of a drawn number: enough, and readable


@dataclass(frozen=True)
class Choice:
    """One of some rows; a row has one text per key of its axis."""

    rows: tuple[tuple[str, ...], ...]

    def draw(self, source: random.Random) -> tuple[str, ...]:
        """Any row, all equally likely."""
        return self.rows[source.randrange(len(self.rows))]

    @property
    def corners(self) -> tuple[tuple[str, ...], ...]:
        """The values that stand for all when a config is checked: here all."""
        return self.rows


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included, uniform in their logarithm if `log`."""

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, source: random.Random) -> tuple[str, ...]:
        """A number, of six digits if it is not a whole one."""
        high = self.high + 1 if self.whole else self.high
        if self.log:
            value = math.exp(source.uniform(math.log(self.low), math.log(high)))
        else:
            value = source.uniform(self.low, high)
        return (self.text(math.floor(value) if self.whole else value),)

    def text(self, value: float) -> str:
        """A value as an `-o` spells it, within the bounds."""
        value = min(max(value, self.low), self.high)
        return str(int(value)) if self.whole else repr(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    @property
    def corners(self) -> tuple[tuple[str, ...], ...]:
        """Both ends."""
        return (self.text(self.low),), (self.text(self.high),)


@dataclass(frozen=True)
class Axis:
    """Keys that vary together (mostly one), and what they may be."""

    keys: tuple[str, ...]
    space: Choice | Interval


def grid(axes: Sequence[Axis]) -> list[Parameters]:
    """Every combination, the last axis fastest."""
    choices = [[dict(zip(axis.keys, row, strict=True)) for row in axis.space.corners] for axis in axes]
    return [_joined(combination) for combination in itertools.product(*choices)]


def draw(axes: Sequence[Axis], seed: int, index: int) -> Parameters:
    """Draw number `index`: the same whatever else is drawn, so that more trials or another axis change none."""
    found = []
    for axis in axes:
        source = random.Random(key(seed, "sweep", ",".join(axis.keys), index))
        found.append(dict(zip(axis.keys, axis.space.draw(source), strict=True)))
    return _joined(found)


def corners(axes: Sequence[Axis]) -> list[Parameters]:
    """A few points that touch every choice and both ends of every interval."""
    longest = max((len(axis.space.corners) for axis in axes), default=0)
    return [
        _joined([dict(zip(axis.keys, axis.space.corners[n % len(axis.space.corners)], strict=True)) for axis in axes])
        for n in range(longest)
    ]


def _joined(parts: Sequence[Parameters]) -> Parameters:
    return {key: text for part in parts for key, text in part.items()}
