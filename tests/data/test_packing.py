"""Layouts derived by hand, and properties checked against a direct reading of the rule."""

import random

import numpy as np
import pytest

from ostinato.data.packing import one_a_row, pack, padded_width, placements


def pack_as_written(lengths, width):
    """The rule word by word, without any data structure."""
    rows = []
    for position in sorted(range(len(lengths)), key=lambda p: (-lengths[p], p)):
        fills = [sum(lengths[p] for p in row) for row in rows]
        takers = [row for row, fill in enumerate(fills) if fill + lengths[position] <= width]
        if takers:
            rows[max(takers, key=lambda row: (fills[row], -row))].append(position)
        else:
            rows.append([position])
    return sorted((sorted(row) for row in rows), key=lambda row: row[0])


@pytest.mark.parametrize(
    ("lengths", "width", "rows"),
    [
        # 7 opens A; 5 opens B (7+5 > 10); the first 3 fits A exactly, the second goes to B
        ([3, 5, 7, 3], 10, [[0, 2], [1, 3]]),
        # 6 and 6 open A, B; 3: both have 6, the lowest row A; 2: A has 9 (no), B; 1: A has 9 and takes it
        ([1, 2, 3, 6, 6], 10, [[0, 2, 3], [1, 4]]),
        # 8 and 5 open A, B; 2 goes to the fuller A, though B has more room
        ([2, 5, 8], 10, [[0, 2], [1]]),
        ([10, 10], 10, [[0], [1]]),
        ([], 10, []),
        ([4], 10, [[0]]),
    ],
)
def test_layouts_by_hand(lengths, width, rows):
    assert pack(lengths, width) == rows


def test_pack_is_the_rule_on_random_lengths():
    draw = random.Random(7)
    for _ in range(300):
        width = draw.randint(1, 40)
        lengths = [draw.randint(1, width) for _ in range(draw.randint(0, 60))]
        rows = pack(lengths, width)
        assert rows == pack_as_written(lengths, width)
        assert sorted(p for row in rows for p in row) == list(range(len(lengths)))
        assert all(sum(lengths[p] for p in row) <= width for row in rows)


@pytest.mark.parametrize("length", [0, 11])
def test_what_fits_no_row_is_refused(length):
    with pytest.raises(ValueError, match=f"{length} tokens does not fit rows of 10"):
        pack([3, length], 10)


def test_unpacked_rows():
    assert one_a_row([5, 1, 9]) == [[0], [1], [2]]
    assert [padded_width(n, 1000) for n in (1, 64, 65, 960, 961, 1000)] == [64, 64, 128, 960, 1000, 1000]


def test_placements_by_hand():
    where, positions, documents = placements([[2, 1], [3]], width=4)
    assert where.tolist() == [0, 1, 2, 4, 5, 6]
    assert positions.tolist() == [0, 1, 0, 0, 1, 2]
    assert documents.tolist() == [0, 0, 1, 0, 0, 0]
    assert where.dtype == np.int64
