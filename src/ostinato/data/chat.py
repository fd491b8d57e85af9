"""A conversation as text: a model's own Jinja template, rendered once in a sandbox, and where the assistant speaks.

Spans come from the template's `{% generation %}` blocks (the convention of transformers' chat templates), else from
rendering growing prefixes of the messages (post_training.md 3).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from jinja2 import TemplateError

from ostinato.core.errors import UserError
from ostinato.data.rows import Message, RowError
from ostinato.data.template_sandbox import CLOSE, OPEN, TemplateEnvironment

Span = tuple[int, int]
TODAY = "strftime_now"
"""The one of a template's options that is not handed on as it is: the day that the template is told it is."""


@dataclass(frozen=True)
class Rendering:
    """A conversation's text, and the spans of its `{% generation %}` blocks (touching ones are one)."""

    text: str
    blocks: list[Span]


class ChatTemplate:
    """A compiled template, with the special tokens it may name (`bos_token`, `eos_token`, ...) and `options` to give it
    (`{"enable_thinking": False}`); `for_tools` is used instead where there are tools.

    `strftime_now` is offered only where the options fix the day: a text that depends on when it was rendered could not
    be repeated. Raises UserError for a template that cannot be read.
    """

    def __init__(
        self,
        source: str,
        tokens: Mapping[str, str | None],
        options: Mapping[str, Any] | None = None,
        *,
        for_tools: str | None = None,
    ) -> None:
        given = dict(options or {})
        self._environment = TemplateEnvironment(_day(given.pop(TODAY, None)))
        self._values = {name: token for name, token in tokens.items() if token is not None} | given
        self._plain, self._plain_blocks = self._compiled(source), _has_blocks(source)
        self._tools, self._tool_blocks = self._plain, self._plain_blocks
        if for_tools is not None:
            self._tools, self._tool_blocks = self._compiled(for_tools), _has_blocks(for_tools)

    def _compiled(self, source: str) -> Any:
        try:
            return self._environment.from_string(source)
        except (TemplateError, RecursionError, SyntaxError, ValueError, MemoryError) as error:
            where = f", line {error.lineno}" if isinstance(error, TemplateError) and hasattr(error, "lineno") else ""
            said = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise UserError(f"chat template{where}: {said}. Give another as tokenizer.chat_template.") from error

    def render(
        self, messages: Sequence[Message], tools: list[Any] | None = None, *, add_generation_prompt: bool = False
    ) -> Rendering:
        """The text of `messages`; with a generation prompt, what a model is given to answer."""
        self._environment.begin()
        values = {"documents": None, **self._values, "messages": messages, "tools": tools}
        try:
            template = self._tools if tools else self._plain
            marked = template.render(**values, add_generation_prompt=add_generation_prompt)
        except Exception as error:  # a template is data: whatever goes wrong in it is said as a mistake of the template
            remedy = "Mend it, or the row."
            if f"'{TODAY}' is undefined" in str(error):
                remedy = f"It asks which day it is: fix one, tokenizer.template_options: {{{TODAY}: 2024-07-26}}."
            raise RowError(f"the chat template fails: {str(error) or type(error).__name__}. {remedy}") from error
        return _without_marks(marked)

    def turn_end(self, special: Collection[str]) -> str | None:
        """Which of these tokens stands behind an answer; None where none does, or where it takes more to know."""
        answer = "ostinato"
        try:
            text = self.render([{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]).text
        except RowError:
            return None
        behind = text.rpartition(answer)[2].lstrip()
        return max((token for token in special if behind.startswith(token)), key=len, default=None)

    def spans(
        self, messages: Sequence[Message], wanted: Sequence[int], tools: list[Any] | None = None
    ) -> tuple[str, list[Span]]:
        """The conversation's text and where in it the wanted messages speak, white space behind them left out.

        Raises RowError where the template does not let it be known.
        """
        whole = self.render(messages, tools)
        if self._tool_blocks if tools else self._plain_blocks:
            spans = _of_messages(whole.blocks, messages, wanted)
        else:
            spans = [self._grown(whole.text, messages, number, tools) for number in wanted]
        return whole.text, [(start, start + len(whole.text[start:end].rstrip())) for start, end in spans]

    def _grown(self, whole: str, messages: Sequence[Message], number: int, tools: list[Any] | None) -> Span:
        """From behind the generation prompt of the messages before it to the end of its own turn."""
        before = self.render(messages[:number], tools, add_generation_prompt=True).text
        after = self.render(messages[: number + 1], tools).text
        for prefix, count in ((before, f"first {number} with a generation prompt"), (after, f"first {number + 1}")):
            if not whole.startswith(prefix):
                raise RowError(
                    f"the chat template renders the {count} of {len(messages)} messages otherwise than the whole "
                    f"conversation begins: {_first_difference(prefix, whole)}. So it cannot be known which tokens are "
                    "the answer's: mark them in the template by {% generation %} ... {% endgeneration %}."
                )
        return len(before), max(len(before), len(after))


def check_nothing_lost(messages: Sequence[Message], text: str) -> bool:
    """Raise RowError if what a message says is not in the rendering; whether only reasoning was left out."""
    contents = [message["content"].strip() for message in messages]
    reasoning_left_out = False
    for content, times in Counter(contents).items():
        if text.count(content) >= times:
            continue
        answer = content.rpartition("</think>")[2].strip()
        if answer == content or answer not in text:
            number = contents.index(content)
            raise RowError(
                f"the chat template loses message {number + 1} of {len(messages)} ({messages[number]['role']}): "
                f"{_short(content)} is not in the rendering. Use another template, or leave such messages out."
            )
        reasoning_left_out = True
    for message in messages:
        for call in message.get("tool_calls") or ():
            if (name := call.get("function", call).get("name", "")) not in text:
                raise RowError(f"the chat template loses the call of tool {name!r}. Use a template that knows tools.")
        reasoning_left_out |= (message.get("reasoning_content") or "").strip() not in text
    return reasoning_left_out


def _of_messages(blocks: list[Span], messages: Sequence[Message], wanted: Sequence[int]) -> list[Span]:
    speaking = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if len(blocks) == len(speaking):
        return [blocks[speaking.index(number)] for number in wanted]
    if list(wanted) == speaking:
        return blocks
    raise RowError(
        f"the chat template has {len(blocks)} generation blocks for {len(speaking)} assistant messages, so single ones "
        "cannot be picked. Train on all of them (data.train_on: assistant), or give the template one block each."
    )


def _without_marks(marked: str) -> Rendering:
    pieces = re.split(f"([{OPEN}{CLOSE}])", marked)
    blocks: list[Span] = []
    length = len(pieces[0])
    for number, (mark, piece) in enumerate(zip(pieces[1::2], pieces[2::2], strict=True)):
        if mark != (OPEN, CLOSE)[number % 2]:
            raise RowError("the text holds U+FDD0 or U+FDD1, which stand for no character, or blocks are nested.")
        if mark == OPEN and blocks and blocks[-1][1] == length:
            blocks[-1] = (blocks[-1][0], length + len(piece))
        elif mark == OPEN and piece:
            blocks.append((length, length + len(piece)))
        length += len(piece)
    return Rendering("".join(pieces[::2]), blocks)


def _first_difference(prefix: str, whole: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(prefix, whole, strict=False)) if a != b), min(len(prefix), len(whole)))
    start = max(0, at - 20)
    return f"at character {at} there is {_short(prefix[start:])} instead of {_short(whole[start:])}"


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")


def _has_blocks(source: str) -> bool:
    return re.search(r"\{%[-+]?\s*generation\b", source) is not None


def _day(value: Any) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise UserError(f"tokenizer.template_options.{TODAY}: {value!r} is no day such as 2024-07-26.") from None
