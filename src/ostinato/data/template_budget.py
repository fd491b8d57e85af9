"""How much a chat template may make in one rendering: an upper bound is charged before the thing is made."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2.sandbox import SecurityError

LIMIT = 1 << 30
"""Characters that one rendering may make."""
STEP, TURN = 128, 512
"""What a call or an item of a list counts as, and a turn of a loop: a million and a half turns are a few seconds."""


class Budget:
    """What is left of LIMIT, for each thread by itself."""

    def __init__(self) -> None:
        self._spent = threading.local()

    def begin(self) -> None:
        """A new rendering."""
        self._spent.characters = 0

    def charge(self, characters: int) -> None:
        """Raises SecurityError where the limit is passed."""
        spent = self._spent.characters = getattr(self._spent, "characters", 0) + characters
        if spent > LIMIT:
            turns = LIMIT // (STEP + TURN)
            raise SecurityError(
                f"it does more than a chat template may: {LIMIT:,} characters, or {turns:,} turns of loops"
            )

    def weigh(self, value: Any, times: int = 1) -> None:
        """Charge what `value` is when all of it is written out."""
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                self.charge(len(one) * times)
                continue
            self.charge(STEP * times)
            if isinstance(one, Mapping):
                waiting += [*one.keys(), *one.values()]
            elif isinstance(one, (list, tuple)):
                waiting += one


def made(name: str, text: str, args: list[Any]) -> int:
    """At most how many characters a method or filter makes of a text."""
    texts = [one for one in args if isinstance(one, str)]
    if name == "replace" and len(texts) >= 2:
        return text.count(texts[0]) * len(texts[1])
    if name in ("format", "format_map"):
        return formatted(text, text.count("{") + text.count("%"), args)
    if name == "join":
        parts = [one for one in args if isinstance(one, (list, tuple))]
        return sum(len(text) * len(part) + sum(map(length, part)) for part in parts)
    largest = max(map(number, args), default=0)
    if name in ("expandtabs", "indent", "translate"):
        return len(text) * (1 + max([largest, *map(len, texts), *(_widest(one) for one in args)]))
    return len(text) + largest


def formatted(pattern: str, fields: int, args: Iterable[Any]) -> int:
    """At most how long a formatted text is: each field as wide as the widest value or number in sight."""
    args = [value for one in args for value in (one.values() if isinstance(one, Mapping) else [one])]
    widths = [int(run) if len(run) < 12 else LIMIT for run in re.findall(r"\d+", pattern)]
    return len(pattern) + fields * max([*widths, *map(number, args), *map(length, args)], default=0)


def _widest(value: Any) -> int:
    return max(map(length, value.values()), default=0) if isinstance(value, Mapping) else 0


def length(value: Any) -> int:
    """How much there is of a value; 0 of one that has no length."""
    if isinstance(value, range):
        return len(value) * STEP  # each of its numbers is made when it is asked for
    return len(value) if isinstance(value, (str, list, tuple, Mapping)) else 0


def number(value: Any) -> int:
    """The size of a number, 0 of anything else."""
    return abs(value) if isinstance(value, int) else 0
