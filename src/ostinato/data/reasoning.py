"""What a message's reasoning is called: the name varies from data set to data set, and from template to template."""

from __future__ import annotations

from ostinato.data.rows import Message

NAMES = ("reasoning_content", "thinking", "reasoning")


def with_reasoning(message: Message) -> Message:
    """The message with its reasoning under the names that templates read, as transformers gives it to them."""
    if (found := next((message[name] for name in NAMES if message.get(name) is not None), None)) is None:
        return message
    return {"thinking": found, **message, "reasoning_content": found}
