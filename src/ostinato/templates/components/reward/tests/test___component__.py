"""The reward {{component}} by hand."""

import pytest
from ostinato.core.samples import RewardContext, Sample

from {{name}}.rewards.{{component}} import {{class}}


@pytest.mark.parametrize("text, expected", [("aeiou", 1.0), ("tree", 0.5), ("xyz", 0.0), ("", 0.0)])
def test_the_score_of_a_response(text, expected):
    reward = {{class}}(RewardContext(max_new_tokens=10))
    assert reward([Sample([1], 0, 0, text=text)]) == [expected]
