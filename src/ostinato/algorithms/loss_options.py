"""Options of an algorithm that belong to one of the losses it can use: null is that loss's own default."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.registry import LOSSES


def keyword_options(function: Callable[..., Any]) -> list[str]:
    """The options of a loss, from its signature."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]


def with_options(section: str, loss: str, choices: Sequence[str], given: Mapping[str, Any]) -> Callable[..., Any]:
    """The loss of that name with the options that are given, those that are None left to the loss itself.

    Raises UserError for one that is not the loss's, naming which of `choices` it belongs to.
    """
    function, said = LOSSES.get(loss), {name: value for name, value in given.items() if value is not None}
    for name in said:
        if name not in keyword_options(function):
            homes = [other for other in choices if name in keyword_options(LOSSES.get(other))]
            belongs = f"it belongs to {', '.join(homes)}" if homes else "no loss has it"
            raise UserError(f"{section}.{name}: not an option of {loss}; {belongs}. Leave it out.")
    return functools.partial(function, **said)


def value_of(loss: Any, option: str) -> Any:
    """The value that an option has in a loss of `with_options`: as it was given, else the loss's own default."""
    return loss.keywords.get(option, inspect.signature(loss.func).parameters[option].default)
