"""The weighted sum of rewards, and what is said when one of them fails."""

import numpy
import pytest

from ostinato.core.config import load_config
from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.mistakes import ConfigError
from ostinato.core.registry import REWARDS
from ostinato.rewards.weighted_sum import WeightedSum
from tests.rewards.responses import CONTEXT, response


class Fixed:
    """Returns what it was given."""

    shaping = False

    def __init__(self, *scores):
        self.scores = list(scores)

    def __call__(self, samples):
        return self.scores


class Shaping(Fixed):
    shaping = True


THREE = [response("a", prompt=7), response("b", prompt=8), response("c" * 500, prompt=9)]


def test_parts_that_are_none_are_left_out_and_weights_stay():
    summed = WeightedSum(
        {"a": (Fixed(1.0, None, None), 2.0), "b": (Fixed(0.5, 0.0, None), 1.0), "c": (Shaping(-1.0, -1.0, None), 0.5)}
    )
    scores = summed(THREE)
    assert scores.total == [2.0 * 1.0 + 0.5 - 0.5, 0.0 - 0.5, None]
    assert scores.raw == [2.5, 0.0, None]
    assert scores.parts == {"a": [1.0, None, None], "b": [0.5, 0.0, None], "c": [-1.0, -1.0, None]}


def test_shaping_alone_is_no_score():
    scores = WeightedSum({"a": (Fixed(None, 1.0, 0), 1.0), "b": (Shaping(-1.0, 0.0, 0.0), 1.0)})(THREE)
    assert (scores.total, scores.raw) == ([None, 1.0, 0.0], [None, 1.0, 0.0])


def test_whole_numbers_booleans_and_those_of_numpy_become_floats():
    scores = WeightedSum({"a": (Fixed(True, 2, numpy.float32(0.5)), 1.0)})(THREE)
    assert scores.total == [1.0, 2.0, 0.5] and {type(score) for score in scores.parts["a"]} == {float}


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "1.0", [1.0]])
def test_what_is_no_finite_number_is_named_with_its_response(wrong):
    with pytest.raises(OstinatoError, match="rewards.truth: .* for prompt 8, sample 0: 'b'. A score is a finite") as e:
        WeightedSum({"fine": (Fixed(0, 0, 0), 1.0), "truth": (Fixed(0.0, wrong, 0.0), 1.0)})(THREE)
    assert e.value.exit_code == 1


def test_a_wrong_number_of_scores_is_an_error():
    with pytest.raises(OstinatoError, match="rewards.truth: 2 scores for 3 responses, the first of them prompt 7"):
        WeightedSum({"truth": (Fixed(0.0, 0.0), 1.0)})(THREE)


def test_an_exception_names_the_response_it_comes_of_and_the_line():
    def picky(samples):
        return [{"a": 1.0, "b": 0.0}[sample.text] for sample in samples]

    with pytest.raises(OstinatoError) as caught:
        WeightedSum({"truth": (picky, 1.0)})(THREE)
    message = str(caught.value)
    assert message.startswith("rewards.truth: KeyError: 'ccc") and "test_weighted_sum.py:" in message
    assert message.endswith("for prompt 9, sample 0: '" + "c" * 200 + "...'")
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_exception_of_the_batch_as_a_whole_says_so():
    def crowded(samples):
        if len(samples) > 2:
            raise MemoryError("too many")
        return [0.0 for _ in samples]

    with pytest.raises(OstinatoError, match="MemoryError: too many .*for 3 responses, beginning with prompt 7"):
        WeightedSum({"truth": (crowded, 1.0)})(THREE)


def test_it_is_built_of_a_config_by_name(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "rewards:\n  right: {name: exact_match, weight: 2.0}\n  loose: {name: exact_match, ignore_case: true}\n"
    )
    config = load_config(tmp_path / "c.yaml", [], {})
    summed = REWARDS.get("weighted_sum")(config.rewards, CONTEXT)
    scores = summed([response("A", {"answer": "a"}), response("a", {"answer": "a"}), response("a")])
    assert scores.total == [1.0, 3.0, None]
    assert scores.parts == {"right": [0.0, 1.0, None], "loose": [1.0, 1.0, None]}


def test_none_and_itself_are_no_rewards(tmp_path):
    with pytest.raises(UserError, match="rewards: no reward is given"):
        REWARDS.get("weighted_sum")({}, CONTEXT)
    (tmp_path / "c.yaml").write_text("rewards: {all: {name: weighted_sum}}\n")
    config = load_config(tmp_path / "c.yaml", [], {})
    with pytest.raises(ConfigError, match=r"c.yaml:1:\d+  rewards.all: weighted_sum is what adds"):
        REWARDS.get("weighted_sum")(config.rewards, CONTEXT)
