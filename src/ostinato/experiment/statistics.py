"""What a difference between runs is worth: intervals, paired tests, and the smallest difference that could be seen.

Pure functions on numbers. Two-sided, 95 %, 80 % power; no table and no package beyond NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy

LEVEL = 0.95
POWER = 0.8
DRAWS = 10_000
SEED = 0
EXACT_DEGREES = 1000  # beyond, the expansion around the normal distribution errs by less than 1e-8
CHUNK = 1 << 22  # signs drawn at once


class Interval(NamedTuple):
    """A mean, half the width of its interval (None for a single value), and the number of values."""

    mean: float
    half_width: float | None
    n: int


class Paired(NamedTuple):
    """A mean difference over items: its interval, the p value of the test named, the smallest detectable difference."""

    difference: float
    half_width: float | None
    p_value: float
    test: str
    detectable: float | None
    items: int
    clusters: int | None


def student_probability(t: float, degrees: int) -> float:
    """P(|T| <= t) of Student's t with whole degrees of freedom: the finite sums of Abramowitz and Stegun, 26.7.3-4."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    total, term = 0.0, 1.0 if degrees % 2 == 0 else cosine
    for k in range(degrees % 2, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    return sine * total if degrees % 2 == 0 else 2 / math.pi * (angle + sine * total)


def student_quantile(probability: float, degrees: int) -> float:
    """The t below which lies `probability` (above 1/2) of Student's t."""
    if degrees > EXACT_DEGREES:
        z = NormalDist().inv_cdf(probability)
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    inside = 2 * probability - 1
    low, high = 0.0, 1.0
    while student_probability(high, degrees) < inside:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_probability(middle, degrees) < inside else (low, middle)
    return (low + high) / 2


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of independent values with its 95 % interval. Raises ValueError without values."""
    count = len(values)
    if count == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / count if all(map(math.isfinite, values)) else math.nan
    if count == 1:
        return Interval(values[0], None, 1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Interval(mean, student_quantile((1 + LEVEL) / 2, count - 1) * spread / math.sqrt(count), count)


def paired_test(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = SEED
) -> Paired:
    """`second` minus `first`, item by item; items of one cluster are not independent of each other.

    The interval is Student's from the differences, cluster-robust where there are clusters. The test is McNemar's exact
    one for independent 0/1 scores, else a permutation test that flips the signs of items, or of whole clusters.
    """
    differences = numpy.asarray(second, dtype=float) - numpy.asarray(first, dtype=float)  # (items,)
    count = len(differences)
    if count == 0:
        raise ValueError("no items")
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters or range(count)))}
    places = [names[name] for name in clusters] if clusters else list(range(count))
    groups = len(names)
    mean = float(differences.mean())
    half_width = detectable = None
    if groups > 1:
        sums = numpy.bincount(places, differences - mean, minlength=groups)  # (groups,)
        error = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / count
        quantile = student_quantile((1 + LEVEL) / 2, groups - 1)
        half_width = quantile * error
        detectable = (quantile + student_quantile(POWER, groups - 1)) * error
    if groups == count and set(first) | set(second) <= {0, 1}:
        test, p_value = "McNemar exact", mcnemar(int((differences < 0).sum()), int((differences > 0).sum()))
    else:
        test = f"permutation, {DRAWS} draws"
        p_value = sign_flips(numpy.bincount(places, differences, minlength=groups), seed)
    return Paired(mean, half_width, p_value, test, detectable, count, groups if groups < count else None)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact p value of two counts of discordant pairs, equally likely if there is no difference."""
    count, fewer = only_first + only_second, min(only_first, only_second)
    total, term = 0, 1  # binomial coefficients (count over k), exact
    for k in range(fewer + 1):
        total += term
        term = term * (count - k) // (k + 1)
    return min(1.0, 2 * total / 2**count)


def sign_flips(differences: numpy.ndarray, seed: int = SEED, draws: int = DRAWS) -> float:
    """The p value of a sum of differences (groups,) among those with random signs; the observed one counts as drawn."""
    random = numpy.random.default_rng(seed)
    bound = abs(float(differences.sum())) - 1e-12 * float(numpy.abs(differences).sum())  # equal up to rounding is equal
    extreme, rows = 0, max(1, CHUNK // len(differences))
    for begin in range(0, draws, rows):
        signs = random.integers(0, 2, (min(rows, draws - begin), len(differences)), dtype=numpy.int8)
        sums = (2.0 * signs - 1) @ differences
        extreme += int((numpy.abs(sums) >= bound).sum())
    return (1 + extreme) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm 1979), in the given order."""
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = floor
    return adjusted
