"""Rewards that look at the form of a response: format, length, overlong."""

import pytest

from ostinato.rewards.format import Format
from ostinato.rewards.length import Length
from ostinato.rewards.overlong import Overlong
from tests.rewards.responses import CONTEXT, response


def test_format_matches_the_whole_stripped_response_over_lines():
    form = Format(CONTEXT)
    texts = {
        "\n<think>a\nb</think>\n<answer>4</answer> ": 1.0,
        "<think></think><answer></answer>": 1.0,
        "<think>a</think><answer>4</answer>.": 0.0,
        "So <think>a</think><answer>4</answer>": 0.0,
        "<answer>4</answer><think>a</think>": 0.0,
        "": 0.0,
    }
    assert form([response(text) for text in texts]) == list(texts.values())
    assert Format(CONTEXT, pattern=r"\d+")([response(" 12\n"), response("1 2")]) == [1.0, 0.0]
    with pytest.raises(ValueError, match="pattern: '\\(' is no regular expression: missing \\)"):
        Format(CONTEXT, pattern="(")


def test_length_costs_a_fraction_of_the_limit():
    length = Length(CONTEXT, coefficient=0.5)  # of 100 tokens
    assert length([response("", tokens=n) for n in (0, 1, 40, 100)]) == [0.0, -0.005, -0.2, -0.5]
    assert Length.shaping


def test_overlong_falls_within_the_buffer():
    lengths = [response("", tokens=n) for n in (0, 80, 81, 90, 99, 100, 101)]
    expected = [0.0, 0.0, -1 / 20, -10 / 20, -19 / 20, -1.0, -1.0]
    assert Overlong(CONTEXT, buffer=20)(lengths) == expected  # the limit is the context's 100
    assert Overlong(CONTEXT)(lengths) == expected  # a fifth of it
    assert Overlong(CONTEXT, limit=90, buffer=10)(lengths) == [0.0, 0.0, -0.1, -1.0, -1.0, -1.0, -1.0]
    assert Overlong(CONTEXT, buffer=0)(lengths) == [0.0] * 6 + [-1.0]
    assert Overlong(CONTEXT, buffer=100)(lengths[:3]) == [0.0, -0.8, -0.81]
    assert Overlong.shaping


@pytest.mark.parametrize("buffer", [-1, 101])
def test_a_buffer_lies_within_the_limit(buffer):
    with pytest.raises(ValueError, match=f"buffer: {buffer} is not between 0 and the limit of 100 tokens"):
        Overlong(CONTEXT, buffer=buffer)
