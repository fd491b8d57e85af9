"""Whether a rendering says all that its messages say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from ostinato.data.reasoning import NAMES
from ostinato.data.rows import Message, RowError


def check_nothing_lost(messages: Sequence[Message], text: str) -> bool:
    """Raise RowError if what a message says is not in the rendering; whether only reasoning was left out."""
    contents = [message["content"].strip() for message in messages]
    reasoning_left_out = False
    for content, times in Counter(contents).items():
        if text.count(content) >= times or text.count(json.dumps(content, ensure_ascii=False)[1:-1]) >= times:
            continue  # as it is, or as a string of JSON, which some templates make of a tool's result
        answer = content.rpartition("</think>")[2].strip()
        if answer == content or answer not in text:
            number = contents.index(content)
            raise RowError(
                f"the chat template loses message {number + 1} of {len(messages)} ({messages[number]['role']}): "
                f"{shortened(content)} is not in the rendering. Use another template, or leave such messages out."
            )
        reasoning_left_out = True
    for message in messages:
        for call in message.get("tool_calls") or ():
            if (name := call.get("function", call).get("name", "")) not in text:
                raise RowError(f"the chat template loses the call of tool {name!r}. Use a template that knows tools.")
        reasoning = (message.get(name) for name in NAMES)
        reasoning_left_out |= any(said.strip() not in text for said in reasoning if isinstance(said, str))
    return reasoning_left_out


def shortened(text: str, limit: int = 60) -> str:
    """The beginning of a text, quoted."""
    return repr(text if len(text) <= limit else text[:limit] + "...")
