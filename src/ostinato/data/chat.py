"""A conversation as text: a model's own Jinja template, rendered once in a sandbox, and where the assistant speaks.

Spans come from the template's `{% generation %}` blocks (the convention of transformers' chat templates), else from
rendering growing prefixes of the messages (post_training.md 3).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import SecurityError

from ostinato.core.errors import UserError
from ostinato.data.lost_messages import shortened
from ostinato.data.reasoning import with_reasoning
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
        self._plain, self._plain_blocks = self._compiled(source), self._environment.marks(source)
        self._tools, self._tool_blocks = self._plain, self._plain_blocks
        if for_tools is not None:
            self._tools, self._tool_blocks = self._compiled(for_tools), self._environment.marks(for_tools)

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
        """The text of `messages`; with a generation prompt, what a model is given to answer.

        Raises RowError where it fails, UserError where it reaches for what it may not.
        """
        self._environment.begin()
        values = {"documents": None, **self._values, "tools": tools}
        values["messages"] = [with_reasoning(message) for message in messages]
        try:
            template = self._tools if tools else self._plain
            marked = template.render(**values, add_generation_prompt=add_generation_prompt)
        except (SecurityError, RecursionError, MemoryError) as error:  # of no use for any other row either
            said = str(error).rstrip(".") or type(error).__name__
            raise UserError(
                f"the chat template is refused: {said}. Give another as tokenizer.chat_template."
            ) from error
        except Exception as error:  # a template is data: whatever goes wrong in it is said as a mistake of the template
            remedy = "Mend it, or the row."
            if f"'{TODAY}' is undefined" in str(error):
                remedy = f"It asks which day it is: fix one, tokenizer.template_options: {{{TODAY}: 2024-07-26}}."
            elif "_token' is undefined" in str(error):
                remedy = "The tokenizer has none: take a template that does without, or a tokenizer that has it."
            raise RowError(f"the chat template fails: {_said(error)}. {remedy}") from error
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
        self,
        messages: Sequence[Message],
        wanted: Sequence[int],
        tools: list[Any] | None = None,
        ends: Collection[str] = (),
    ) -> tuple[str, list[Span]]:
        """The conversation's text and where in it the wanted messages speak, white space behind them left out; without
        blocks up to the first of the tokens `ends` behind what they say, where there is one.

        Raises RowError where the template does not let it be known.
        """
        whole = self.render(messages, tools)
        if self._tool_blocks if tools else self._plain_blocks:
            spans = _of_messages(whole.blocks, messages, wanted)
        else:
            spans = [self._grown(whole.text, messages, number, tools, ends) for number in wanted]
        return whole.text, [(start, start + len(whole.text[start:end].rstrip())) for start, end in spans]

    def _grown(
        self, whole: str, messages: Sequence[Message], number: int, tools: list[Any] | None, ends: Collection[str]
    ) -> Span:
        """From behind the generation prompt of the messages before it to the end of its own turn."""
        before = self.render(messages[:number], tools, add_generation_prompt=True).text
        after = self.render(messages[: number + 1], tools).text
        if after.startswith(before):
            after = before + _up_to_stop(after[len(before) :], messages[number]["content"].strip(), ends)
        for prefix, count in ((before, f"first {number} with a generation prompt"), (after, f"first {number + 1}")):
            if not whole.startswith(prefix):
                raise RowError(
                    f"the chat template renders the {count} of {len(messages)} messages otherwise than the whole "
                    f"conversation begins: {_first_difference(prefix, whole)}. So it cannot be known which tokens are "
                    "the answer's: mark them in the template by {% generation %} ... {% endgeneration %}, take a "
                    "shipped one (tokenizer.chat_template), or take data.train_on: last_assistant."
                )
        return len(before), max(len(before), len(after))


def _up_to_stop(said: str, content: str, ends: Collection[str]) -> str:
    """What a turn says up to its stop token; some templates close the whole text behind it."""
    behind = said.find(content) + len(content) if content in said else 0
    stops = [(at, at + len(end)) for end in ends if (at := said.find(end, behind)) >= 0]
    return said[: min(stops)[1]] if stops else said


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
    return f"at character {at} there is {shortened(prefix[start:])} instead of {shortened(whole[start:])}"


def _said(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _day(value: Any) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise UserError(f"tokenizer.template_options.{TODAY}: {value!r} is no day such as 2024-07-26.") from None
