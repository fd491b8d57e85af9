"""Where chat templates run: jinja2's sandbox, with a bound on the work and memory of one rendering.

A template comes with a model from anywhere. The sandbox keeps it from the interpreter; the budget here ends one that
loops for ever or makes a text without end. Nothing that depends on time or chance is offered.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ostinato.data.template_budget import STEP, TURN, Budget, formatted, length, made, number

# Noncharacters of Unicode, which no text for interchange holds: they stand around a block's text until it is rendered.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
WEIGHED = {"string", "pprint", "join", "urlencode", "xmlattr", "escape", "e", "forceescape", "tojson"}
"""Filters that write out all that is in a value."""


class GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}`: what is inside is what the assistant says."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return OPEN + caller() + CLOSE


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of one template. `begin` before each rendering; each thread has its own budget.

    `today` is what `strftime_now` formats; without it the function is not there, since a text that depends on the day
    it was rendered could not be repeated.
    """

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, today: date | None = None) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # the optimizer computes constants when a template is read
            extensions=[GenerationBlock, loopcontrols],
            finalize=pass_context(lambda context, value: self._weighed(value)),
        )
        self._budget = Budget()
        self.filters["tojson"] = _to_json
        for name in ("random", "wordwrap"):
            del self.filters[name]
        self.filters = {name: self._guarded(name, function) for name, function in self.filters.items()}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise
        if today is not None:
            self.globals["strftime_now"] = lambda pattern: today.strftime(_plain_pattern(pattern))

    def begin(self) -> None:
        """A new budget for this thread."""
        self._budget.begin()

    def marks(self, source: str) -> bool:
        """Whether a template has generation blocks."""
        return any(node.name == "_marked" for node in self.parse(source).find_all(nodes.ExtensionAttribute))

    def tick(self) -> bool:
        """A turn; what `_generate` puts into each loop and macro."""
        self._budget.charge(TURN)
        return True

    def concat(self, parts: Iterable[str]) -> str:  # type: ignore[override]
        parts = list(parts)
        self._budget.charge(sum(map(len, parts)))
        return "".join(parts)

    def joined(self, *parts: Any) -> str:
        """What `~` does."""
        return "".join([str(self._weighed(part)) for part in parts])

    def held(self, value: Any) -> Any:
        """A list or map that the template writes down; lists of the same lists grow without end."""
        return self._weighed(value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            self._budget.charge(formatted(left, left.count("%"), right if isinstance(right, tuple) else (right,)))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            self._budget.charge(left.bit_length() * max(right, 0))
        elif operator == "+" and isinstance(left, (str, list, tuple)):
            self._budget.charge(len(left))
            self._weighed(right)
        elif operator == "*":
            self._budget.charge(length(left) * number(right) + length(right) * number(left))
            self._budget.charge(sum(value.bit_length() for value in (left, right) if isinstance(value, int)))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        method = getattr(function, "__wrapped__", function)  # `format` comes wrapped
        self._budget.charge(STEP)
        if isinstance(text := getattr(method, "__self__", None), str):
            self._budget.charge(made(method.__name__, text, [*args, *kwargs.values()]))
        elif function is dict:
            self._weighed([*args, *kwargs.values()])
        return super().call(context, function, *args, **kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        def call(name: str, *values: nodes.Expr) -> nodes.Call:
            return nodes.Call(nodes.EnvironmentAttribute(name), list(values), [], None, None)

        repeated: list[Any] = list(source.find_all((nodes.For, nodes.Macro, nodes.CallBlock)))
        for loop in repeated:
            loop.body.insert(0, nodes.ExprStmt(call("tick")))
            if isinstance(loop, nodes.For) and loop.test is not None:
                loop.test = nodes.And(call("tick"), loop.test)
        for parent in [source, *source.find_all(nodes.Node)]:
            for name, value in list(parent.iter_fields()):
                if isinstance(value, list):
                    setattr(parent, name, [_replaced(one, call) for one in value])
                elif isinstance(value, nodes.Node):
                    setattr(parent, name, _replaced(value, call))
        source.set_environment(self)
        return super()._generate(source, *args, **kwargs)

    def _weighed(self, value: Any) -> Any:
        if isinstance(value, str):
            self._budget.charge(len(value))
        else:
            self._budget.weigh(value)
        return value

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        place = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

        @functools.wraps(function)
        def filtered(*args: Any, **kwargs: Any) -> Any:
            value, rest = args[place], [*args[place + 1 :], *kwargs.values()]
            if name == "join" and not isinstance(value, (str, list, tuple, Mapping)):
                value = list(value)
                args = (*args[:place], value, *args[place + 1 :])
            self._budget.charge(STEP + length(value))
            if name in WEIGHED:
                self._budget.weigh(value, times=1 + max([number(one) or length(one) for one in rest], default=0))
            self._budget.charge(
                made(name, value, rest) if isinstance(value, str) else max(map(number, rest), default=0)
            )
            result = function(*args, **kwargs)
            return self._weighed(result) if isinstance(result, (list, tuple, Mapping)) else result

        return filtered


def _replaced(node: Any, call: Callable[..., nodes.Call]) -> Any:
    """`~` and lists written down, as calls of the environment; where a list is assigned to, nothing changes."""
    if isinstance(node, nodes.Concat):
        return call("joined", *node.nodes)
    if isinstance(node, (nodes.List, nodes.Tuple)) and all(isinstance(one, nodes.Const) for one in node.items):
        return node
    if isinstance(node, (nodes.List, nodes.Dict)) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        return call("held", node)
    return node


def _plain_pattern(pattern: str) -> str:
    """Refuse widths, with which strftime makes texts of any length."""
    if len(pattern) > 100 or re.search(r"%-?[^A-Za-z%-]", pattern):
        raise TemplateError(f"strftime_now({pattern[:20]!r}...) is no plain pattern")
    return pattern


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers' templates expect it: keys in their order, nothing escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)
