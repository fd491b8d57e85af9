"""What a row of a fine-tuning file is: told apart by its keys, brought into one of three shapes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ostinato.core.errors import UserError

Message = dict[str, Any]

KINDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "messages": (("messages",),),
    "conversations (ShareGPT)": (("conversations",),),
    "instruction and output (Alpaca)": (("instruction", "output"),),
    "prompt and response": (("prompt", "response"), ("prompt", "completion")),
    "question and answer": (("question", "answer"),),
    "text": (("text",),),
}
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


class RowError(UserError):
    """A row that cannot be used as it is; whoever reads rows adds its place."""


@dataclass(frozen=True)
class Conversation:
    """Messages in turns. Those whose number is in `context` are read, never trained on."""

    messages: list[Message]
    context: frozenset[int] = frozenset()
    tools: list[Any] | None = None


@dataclass(frozen=True)
class PromptResponse:
    """A prompt and its answer, both plain strings; a conversation of two or three turns where there is a template."""

    prompt: str
    response: str
    system: str = ""

    def conversation(self) -> Conversation:
        """The same as a conversation."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.response}]
        return Conversation(system + turns)


@dataclass(frozen=True)
class Text:
    """A document, trained on as a whole."""

    text: str


def kind_of(row: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The kind of a row, and the keys that make it one. Raises RowError where its keys fit no kind, or two."""
    matches = [(kind, keys) for kind, choices in KINDS.items() for keys in choices if all(key in row for key in keys)]
    if len(matches) != 1:
        raise RowError(_no_kind(row, [kind for kind, _ in matches]))
    return matches[0]


def calls_tools(row: dict[str, Any]) -> bool:
    """Whether a conversation offers tools or calls them."""
    parts = [part for key in ("messages", "prompt", "response", "completion") for part in _parts(row.get(key))]
    return bool(row.get("tools")) or any(part.get("tool_calls") or part.get("role") == "tool" for part in parts)


def read_row(row: dict[str, Any]) -> Conversation | PromptResponse | Text:
    """The row in its shape. Raises RowError where its keys fit no kind or two, or its values are not what they say."""
    keys = kind_of(row)[1]
    match keys:
        case ("messages",) | ("conversations",):
            return _conversation(row, keys[0])
        case ("instruction", "output"):
            given = _string(row, "input") if row.get("input") else ""
            prompt = _string(row, "instruction")
            return PromptResponse(f"{prompt}\n\n{given}" if given else prompt, _string(row, "output"), _system(row))
        case ("prompt", answer):
            return _prompt_response(row, answer)
        case ("question", "answer"):
            return PromptResponse(_string(row, "question"), _string(row, "answer"), _system(row))
        case _:
            return Text(_string(row, "text"))


def _no_kind(row: dict[str, Any], found: list[str]) -> str:
    keys = ", ".join(map(str, row)) or "none"
    if found:
        return f"the keys {keys} fit {' and '.join(found)}; choose with columns, e.g. `columns: {{text: text}}`"
    pairs = "chosen" in row and "rejected" in row
    return (
        f"the keys {keys} fit no kind of row ({'; '.join(KINDS)}); "
        + ("chosen and rejected are pairs, for dpo or reward_model; others are named" if pairs else "name them")
        + " with columns, e.g. `columns: {prompt: task, response: solution}`"
    )


def _parts(value: Any) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _string(row: dict[str, Any], key: str) -> str:
    if not isinstance(row[key], str):
        raise RowError(f"{key} is {json.dumps(row[key], default=str)[:60]}, not a string")
    return row[key]


def _system(row: dict[str, Any]) -> str:
    return _string(row, "system") if row.get("system") else ""


def _prompt_response(row: dict[str, Any], answer: str) -> Conversation | PromptResponse:
    if isinstance(row["prompt"], str) and isinstance(row[answer], str):
        return PromptResponse(row["prompt"], row[answer], _system(row))
    prompt = row["prompt"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    response = row[answer]
    if isinstance(response, str):
        response = [{"role": "assistant", "content": response}]
    before = _messages(prompt, "prompt")
    return Conversation(before + _messages(response, answer), frozenset(range(len(before))), _tools(row))


def _conversation(row: dict[str, Any], key: str) -> Conversation:
    messages = _messages(row[key], key)
    if (system := _system(row)) and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    untrained = frozenset(number for number, message in enumerate(messages) if message.pop("weight", 1) == 0)
    return Conversation(messages, untrained, _tools(row))


def _tools(row: dict[str, Any]) -> list[Any] | None:
    tools = row.get("tools") or None
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise RowError(f"tools is a string that is not JSON: {error}") from error
    if tools is not None and not isinstance(tools, list):
        raise RowError(f"tools is {json.dumps(tools, default=str)[:60]}, not a list")
    return tools or None


def _messages(value: Any, key: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise RowError(f"{key} is not a list of messages")
    return [_message(message, f"{key}[{number}]") for number, message in enumerate(value)]


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise RowError(f"{where} is not a message, a map with role and content")
    if "from" in message and "value" in message:
        if message["from"] not in SHAREGPT_ROLES:
            raise RowError(f"{where}: unknown speaker {message['from']!r}; known: {', '.join(SHAREGPT_ROLES)}")
        message = {"role": SHAREGPT_ROLES[message["from"]], "content": message["value"]}
    if not isinstance(message.get("role"), str):
        raise RowError(f"{where} has the keys {', '.join(message)}; a message needs role and content")
    return message | {"content": _content(message, where)}


def _content(message: Message, where: str) -> str:
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise RowError(f"{where}: content is {json.dumps(content, default=str)[:60]}, not text")
    return content
