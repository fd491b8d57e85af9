"""Expressions that reach a target: computed, not compared."""

import pytest

from ostinato.core.errors import OstinatoError
from ostinato.data.countdown import Countdown as Task
from ostinato.rewards.countdown import Countdown
from tests.rewards.responses import CONTEXT, response

ROW = {"numbers": [3, 8, 2], "target": 22}
SCORES = {
    "(8+3)*2": 1.0,
    "2*8+3*2": 0.0,  # 2 twice
    "2 * (3 + 8) = 22": 1.0,
    "2×(3+8)": 1.0,
    "I think\n<answer> (3+8)*2 </answer> is it": 1.0,
    "<answer>1</answer><answer>(3+8)*2</answer>": 1.0,
    "First 8+3 = 11, so\n(8+3)*2": 1.0,
    "(8+3)*2\n8": 0.0,  # the last line counts
    "(8+3)*2=23": 1.0,  # what it is said to be does not
    "8*3-2": 1.0,
    "8+3*2": 0.0,  # 14
    "11*2": 0.0,
    "22": 0.0,
    "": 0.0,
    "(8+3)*2)": 0.0,
    "((8+3)*2": 0.0,
    "8/(3-3)": 0.0,
    "(8+3)**2": 0.0,
    "--22": 0.0,
    "83//2": 0.0,
    "02*(3+8)": 0.0,
    "print(22)": 0.0,
    "(" * 150: 0.0,
    "9**9**9**9": 0.0,
    "1" * 1000: 0.0,
}


@pytest.mark.parametrize(("text", "score"), SCORES.items())
def test_a_response(text, score):
    assert Countdown(CONTEXT)([response(text, ROW)]) == [score]


def test_division_is_exact():
    row = {"numbers": [8, 3, 8, 3], "target": 24}
    assert Countdown(CONTEXT)([response("8/(3-8/3)", row)]) == [1.0]
    assert Countdown(CONTEXT)([response("7/2", {"numbers": [7, 2], "target": 3})]) == [0.0]


def test_not_all_numbers_need_be_used_if_so_asked():
    texts = ["8+3", "8", "8+3+2"]
    samples = [response(text, {"numbers": [3, 8, 2], "target": 11}) for text in texts]
    assert Countdown(CONTEXT, use_all=False)(samples) == [1.0, 0.0, 0.0]
    assert Countdown(CONTEXT)(samples) == [0.0, 0.0, 0.0]
    twice = [response("8+8", {"numbers": [8, 2], "target": 16}), response("8+8", {"numbers": [8, 8], "target": 16})]
    assert Countdown(CONTEXT, use_all=False)(twice) == [0.0, 1.0]


def test_without_a_target_a_response_is_unscorable():
    assert (
        Countdown(CONTEXT)([response("1"), response("1", {"numbers": [1]}), response("1", {"target": 1})]) == [None] * 3
    )
    with pytest.raises(OstinatoError, match="target '22' .* are no whole numbers"):
        Countdown(CONTEXT)([response("1", {"numbers": [1], "target": "22"})])


def test_the_answers_of_the_task_are_right():
    task = Task(0, numbers=5, largest=99, size=100)
    assert Countdown(CONTEXT)([response(task[index]["answer"], task[index]) for index in range(100)]) == [1.0] * 100
