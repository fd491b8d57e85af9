"""Row kinds told apart by their keys."""

import pytest

from ostinato.data.rows import Conversation, PromptResponse, RowError, Text, read_row

ASK, SAY = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"text": "a"}, Text("a")),
        ({"prompt": "a", "response": "b"}, PromptResponse("a", "b")),
        ({"prompt": "a", "completion": "b", "system": "s"}, PromptResponse("a", "b", "s")),
        ({"instruction": "a", "input": "", "output": "b"}, PromptResponse("a", "b")),
        ({"instruction": "a", "input": "with", "output": "b"}, PromptResponse("a\n\nwith", "b")),
        ({"question": "a", "answer": "b", "id": 1}, PromptResponse("a", "b")),
        ({"messages": [ASK, SAY], "prompt": "hi", "id": 3}, Conversation([ASK, SAY])),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}], "system": "s"},
            Conversation([{"role": "system", "content": "s"}, ASK, SAY]),
        ),
        ({"prompt": [ASK, SAY, ASK], "response": [SAY]}, Conversation([ASK, SAY, ASK, SAY], frozenset({0, 1, 2}))),
        ({"prompt": [ASK], "completion": "yo"}, Conversation([ASK, SAY], frozenset({0}))),
        ({"messages": [ASK, SAY | {"weight": 0}, ASK, SAY]}, Conversation([ASK, SAY, ASK, SAY], frozenset({1}))),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]},
            Conversation([ASK]),
        ),
        ({"messages": [ASK], "tools": '[{"name": "f"}]'}, Conversation([ASK], tools=[{"name": "f"}])),
    ],
)
def test_kinds(row, shape):
    assert read_row(row) == shape


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ask": "a", "say": "b"}, "keys ask, say fit no kind.*columns"),
        ({"chosen": "a", "rejected": "b"}, "keys chosen, rejected fit no kind.* are pairs, for dpo or reward_model"),
        ({"messages": [ASK], "question": "a", "answer": "b"}, "fit messages and question and answer; choose"),
        ({"messages": [ASK], "tools": "[f]"}, "tools is a string that is not JSON"),
        ({"messages": [ASK], "tools": {"name": "f"}}, 'tools is {"name": "f"}, not a list'),
        ({}, "keys none fit no kind"),
        ({"text": "a", "messages": [ASK]}, "keys text, messages fit messages and text; choose"),
        ({"prompt": "a", "response": "b", "completion": "c"}, "fit prompt and response and prompt and response"),
        ({"text": 3}, "text is 3, not a string"),
        ({"messages": []}, "messages is not a list of messages"),
        ({"messages": ["hi"]}, r"messages\[0\] is not a message"),
        ({"messages": [ASK, {"content": "x"}]}, r"messages\[1\] has the keys content; a message needs role"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\]: content is null, not text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "not text"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, r"conversations\[0\]: unknown speaker 'alien'"),
    ],
)
def test_what_is_no_row(row, message):
    with pytest.raises(RowError, match=message):
        read_row(row)


def test_rows_are_not_changed():
    row = {"messages": [dict(SAY, weight=0)]}
    read_row(row)
    assert row == {"messages": [dict(SAY, weight=0)]}
