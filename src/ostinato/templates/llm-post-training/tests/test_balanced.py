"""The reward by hand."""

import pytest
from ostinato.core.samples import RewardContext, Sample

from {{name}}.rewards.balanced import Balanced


@pytest.mark.parametrize(
    "response, expected",
    [("]})", 1.0), ("", 0.0), ("]}", 0.5 * 2 / 3), ("])}", 0.5 / 3), ("]})>", 0.5), ("x", 0.0)],
)
def test_a_response_to_three_brackets(response, expected):
    """Half a point, times the share of the three that were closed before the first mistake."""
    sample = Sample([1], 0, 0, text=response, row={"prompt": "({[="})
    assert Balanced(RewardContext(max_new_tokens=10))([sample]) == [pytest.approx(expected)]


def test_what_has_no_row_is_not_scored():
    assert Balanced(RewardContext(max_new_tokens=10))([Sample([1], 0, 0, text="]")]) == [None]
