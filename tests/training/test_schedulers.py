"""Schedules: every expected factor is derived by hand."""

import math

import pytest

import ostinato.training.schedulers  # noqa: F401
from ostinato.core.registry import SCHEDULERS

ALL = ["constant", "linear", "cosine", "wsd", "inverse_square_root"]


def factors(name, steps, total, warmup, **options):
    return [SCHEDULERS.get(name)(step, total, warmup, **options) for step in steps]


def test_all_are_registered():
    assert set(SCHEDULERS.names()) >= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_warmup_rises_from_one_share_to_exactly_one(name):
    assert factors(name, [1, 2, 3, 4], 20, 4) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", ALL)
def test_without_warmup_the_first_step_has_the_peak(name):
    assert factors(name, [1], 20, 0) == [1.0]
    assert factors(name, [1], 1, 0) == [1.0]  # a run of one step trains


@pytest.mark.parametrize("name", ALL)
def test_cut_inside_the_warmup_is_still_warmup(name):
    assert factors(name, [1, 2], 2, 4) == [0.25, 0.5]


def test_constant_stays():
    assert factors("constant", [4, 5, 20, 999], 20, 4) == [1.0] * 4


def test_linear_is_a_line_to_the_last_step():
    # from step 4 (1.0) to step 8 (0.2): a quarter of the fall of 0.8 at each step
    assert factors("linear", [4, 5, 6, 7, 8, 9], 8, 4, min_ratio=0.2) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert factors("linear", [8], 8, 4) == [0.0]


def test_cosine_by_its_quarter_points():
    # progress 0, 1/3, 1/2, 2/3, 1 over steps 1..7: cos(pi/3) = 1/2, cos(pi/2) = 0, cos(2 pi/3) = -1/2
    got = factors("cosine", [1, 3, 4, 5, 7, 8], 7, 1, min_ratio=0.1)
    assert got == pytest.approx([1.0, 0.1 + 0.9 * 0.75, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * 0.25, 0.1, 0.1])


def test_wsd_is_stable_then_falls_over_its_fraction():
    # 20 steps, the last 20 % = 4 steps: at the peak up to step 16, then quarters of the way down
    got = factors("wsd", [2, 10, 16, 17, 18, 19, 20], 20, 2, decay_fraction=0.2, shape="linear")
    assert got == pytest.approx([1, 1, 1, 0.75, 0.5, 0.25, 0])
    got = factors("wsd", [16, 17, 20], 20, 2, decay_fraction=0.2, shape="sqrt", min_ratio=0.1)
    assert got == pytest.approx([1, 0.1 + 0.9 * 0.5, 0.1])  # sqrt(1/4) = 1/2


def test_wsd_refuses_an_impossible_fraction():
    with pytest.raises(ValueError, match="decay_fraction: 1.5"):
        factors("wsd", [1], 20, 2, decay_fraction=1.5)


def test_inverse_square_root_halves_at_four_times_the_warmup():
    assert factors("inverse_square_root", [4, 16, 64], 100, 4) == [1.0, 0.5, 0.25]
    assert factors("inverse_square_root", [64], 100, 4, min_ratio=0.3) == [0.3]
    assert factors("inverse_square_root", [2], 100, 0) == [math.sqrt(0.5)]
