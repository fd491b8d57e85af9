"""Where a step's samples lie: a layout in rows of equal width, a pure function of the lengths (training.md 1.3)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

WIDTH_MULTIPLE = 64


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Rows of positions in `lengths` that hold each position once and at most `width` tokens a row.

    Longest first, ties by position, each into the fullest row that still takes it, ties to the lowest row. Rows are
    ordered by their earliest sample, and so are the samples in a row.
    """
    if too_long := [length for length in lengths if not 0 < length <= width]:
        raise ValueError(f"a sample of {too_long[0]} tokens does not fit rows of {width}")
    rows: list[list[int]] = []
    free: list[int] = []  # the distinct numbers of free tokens, sorted
    rows_with: dict[int, list[int]] = {}  # free tokens -> heap of the rows that have so many

    for position in sorted(range(len(lengths)), key=lambda p: (-lengths[p], p)):
        length = lengths[position]
        place = bisect_left(free, length)
        if place == len(free):
            row, left = len(rows), width
            rows.append([])
        else:
            left = free[place]
            row = heappop(rows_with[left])
            if not rows_with[left]:
                del free[place]
        rows[row].append(position)
        left -= length
        if not rows_with.get(left):
            insort(free, left)
        heappush(rows_with.setdefault(left, []), row)
    return sorted((sorted(row) for row in rows), key=lambda row: row[0])


def one_a_row(lengths: Sequence[int]) -> list[list[int]]:
    """The layout without packing: each sample a row of its own."""
    return [[position] for position in range(len(lengths))]


def padded_width(longest: int, limit: int) -> int:
    """The width of unpacked rows: the longest of them, rounded up so that few widths occur, within the limit."""
    return min(-(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE, limit)


def placements(row_lengths: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For the tokens of all rows end to end: flat index in (rows, width), position and number in their row's documents.

    Documents of a row follow each other from column 0; what is left of the row is padding.
    """
    lengths = np.array([length for row in row_lengths for length in row], dtype=np.int64)
    starts = np.array(
        [
            number * width + before
            for number, row in enumerate(row_lengths)
            for before in np.cumsum([0, *row[:-1]]).tolist()
        ],
        dtype=np.int64,
    )
    numbers = np.array([number for row in row_lengths for number in range(len(row))], dtype=np.int64)
    positions = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + positions, positions, np.repeat(numbers, lengths)
