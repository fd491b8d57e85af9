"""The dataset: rows are right, none is twice, and held-out prompts are not among the trained ones."""

import pytest

from {{name}}.data.brackets import Brackets
from {{name}}.rewards.balanced import CLOSING


def rows(**options):
    source = Brackets(0, depth=4, **options)
    return [source[index] for index in range(len(source))]


def test_every_response_closes_its_prompt():
    for row in rows(size=256):
        assert [CLOSING[letter] for letter in row["prompt"][-2::-1]] == list(row["response"])


def test_no_prompt_twice_and_none_shared_with_the_held_out():
    """Four kinds and four places: 4^4 = 256 prompts, each once."""
    train = {row["prompt"] for row in rows(size=200)}
    held_out = {row["prompt"] for row in rows(first=200, size=56)}
    assert len(train | held_out) == 256


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="256 different prompts"):
        rows(size=257)
