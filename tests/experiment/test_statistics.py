"""Intervals and tests against values by hand, and against scipy where it is installed."""

import math

import numpy
import pytest

from ostinato.experiment.statistics import (
    holm,
    mcnemar,
    mean_interval,
    paired_test,
    sign_flips,
    student_probability,
    student_quantile,
)


@pytest.mark.parametrize(
    ("degrees", "quantile"),  # tables of Student's t, 97.5 %
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (29, 2.0452), (30, 2.0423), (1000, 1.9623)],
)
def test_quantiles_of_student(degrees, quantile):
    assert student_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-5)


def test_quantiles_in_closed_form():
    """One degree is Cauchy's: tan(pi (p - 1/2)); two: (2p - 1) / sqrt(2 p (1 - p))."""
    for p in (0.6, 0.8, 0.975, 0.999):
        assert student_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-12)
        assert student_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-12)


def test_the_expansion_meets_the_exact_sums():
    for degrees in (1001, 5000):
        assert student_probability(student_quantile(0.975, degrees), degrees) == pytest.approx(0.95, abs=1e-9)


def test_all_of_it_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for degrees in (*range(1, 40), 999, 1000, 1001, 10**6):
        for p in (0.8, 0.975, 0.9999):
            assert student_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-7), (p, degrees)
    for first, second in ((0, 0), (1, 9), (50, 70), (3, 400), (700, 650)):
        expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
        assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_a_mean_and_its_interval():
    """1, 2, 3: s = 1, t(2) = 4.3027, so 4.3027 / sqrt(3) = 2.4841."""
    assert mean_interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(2.4841, abs=1e-4), 3)
    assert mean_interval([5.0]) == (5.0, None, 1)
    assert math.isnan(mean_interval([1.0, math.nan]).mean)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_mcnemar_by_hand():
    """1 against 5: 2 (1 + 6) / 64; equal counts: 1; nothing discordant: 1."""
    assert mcnemar(1, 5) == mcnemar(5, 1) == 14 / 64
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0
    assert mcnemar(0, 10) == 2 / 1024


def test_zeros_and_ones_are_tested_by_mcnemar():
    """Differences 1, 1, 1, -1, 0 x 6: mean 0.2; variance (4 - 10 x 0.04) / 9 = 0.4; error 0.2; t(9) = 2.2622."""
    first, second = [0, 0, 0, 1, 1, 1, 0, 0, 1, 0], [1, 1, 1, 0, 1, 1, 0, 0, 1, 0]
    found = paired_test(first, second)
    assert found.test == "McNemar exact"
    assert found.p_value == 2 * (1 + 4) / 16
    assert (found.difference, found.items, found.clusters) == (pytest.approx(0.2), 10, None)
    assert found.half_width == pytest.approx(0.2 * 2.2622, abs=1e-4)
    assert found.detectable == pytest.approx(0.2 * (2.2622 + 0.8834), abs=1e-4)  # t(9) at 80 %: 0.8834


def test_a_permutation_test_meets_all_its_permutations():
    """1, 2, 3, 4: of 16 sums two are as far from 0 as 10, so p = 1/8."""
    assert sign_flips(numpy.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(1 / 8, abs=0.015)
    assert sign_flips(numpy.zeros(5)) == 1.0
    assert sign_flips(numpy.full(40, 0.1)) == 1 / 10001
    assert sign_flips(numpy.arange(30) - 14.0, seed=3) == sign_flips(numpy.arange(30) - 14.0, seed=3)


def test_clusters_are_not_independent_items():
    """Each item four times over is worth no more than once."""
    draw = numpy.random.default_rng(1)
    first, second = draw.random(12), draw.random(12)
    once = paired_test(first, second)
    copied = paired_test(numpy.repeat(first, 4), numpy.repeat(second, 4), numpy.repeat(numpy.arange(12), 4).tolist())
    assert copied.half_width == pytest.approx(once.half_width)
    assert copied.p_value == once.p_value
    assert (copied.items, copied.clusters, once.clusters) == (48, 12, None)
    assert paired_test([0, 0], [1, 1], ["a", "a"]).half_width is None  # one cluster has no spread
    assert paired_test([0, 0, 0], [1, 1, 0], ["a", "a", "b"]).test.startswith("permutation")


def test_the_interval_covers_and_the_detectable_difference_is_detected():
    """Of many experiments 95 % cover the truth, and a difference of the size named is seen in 80 %."""
    draw = numpy.random.default_rng(0)
    covered = seen = 0
    for _ in range(400):
        noise = draw.normal(size=50)
        found = paired_test(numpy.zeros(50), noise)
        covered += abs(found.difference) <= found.half_width
        shifted = found.difference + 2.8 * 1 / math.sqrt(50)
        seen += abs(shifted) > found.half_width
    assert 0.92 <= covered / 400 <= 0.98
    assert 0.74 <= seen / 400 <= 0.86


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
