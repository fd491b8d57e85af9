"""Curves reduced to what a screen shows, expected values by hand."""

import math

from ostinato.experiment.curves import band, clock, columns, errors_of, line, reduced, short

NAN = math.nan


def test_a_short_line_keeps_every_point():
    assert reduced([3.0, 1.0, 2.0], limit=3) == [0, 1, 2]
    assert reduced([], limit=10) == []


def test_a_long_line_keeps_the_extremes_of_each_bucket():
    """Two buckets of six: smallest and largest of each, the first and the last."""
    values = [5.0, 9.0, 1.0, 4.0, 4.5, 3.0, 2.0, 2.0, 7.0, 0.0, 1.0, 6.0]
    assert reduced(values, limit=6) == [0, 1, 2, 8, 9, 11]


def test_no_peak_is_lost_and_the_limit_holds():
    values = [math.sin(i / 7) for i in range(10_000)]
    values[4321], values[8765] = 50.0, -50.0
    kept = reduced(values, limit=200)
    assert len(kept) <= 200 and kept == sorted(set(kept))
    assert {0, 4321, 8765, 9999} <= set(kept)


def test_a_value_that_is_not_finite_is_not_reduced_away():
    values = [float(i % 10) for i in range(1000)]
    values[500] = NAN
    assert 500 in reduced(values, limit=20)
    assert len(reduced([NAN] * 1000, limit=20)) <= 20


def test_lines_are_differences_and_six_digits():
    assert line([(10, 1.23456789), (12, NAN), (20, 3.0)], 100) == {"step": [10, 2, 8], "value": [1.23457, None, 3]}
    assert [short(1e-9), short(123456789.0), short(math.inf), short(0.0)] == [1e-09, 123457000, None, 0]


def test_seeds_are_a_mean_and_a_band_where_there_are_two():
    first = [(1, 1.0), (2, 2.0), (3, 3.0)]
    second = [(1, 3.0), (2, 6.0), (4, 1.0)]
    third = [(1, 8.0), (2, NAN)]
    assert band([first, second, third], 100) == {"step": [1, 1], "value": [4, 4], "low": [1, 2], "high": [8, 6]}


def test_columns_know_words_for_what_is_not_finite_and_speeds():
    rows = [
        {"kind": "train", "step": 1, "loss": 2.0, "note": "x", "ok": True, "perf": {"tokens_per_second": 10}},
        {"kind": "train", "step": 2, "loss": "inf", "perf": None},
    ]
    assert columns(rows) == {"loss": [(1, 2.0), (2, math.inf)], "perf/tokens_per_second": [(1, 10.0)]}


def test_the_clock_leaves_out_pauses_between_segments():
    def row(step, segment, time):
        return {"step": step, "segment": segment, "time": time, "tokens": 100, "perf": {"seconds": 2.0}}

    rows = [row(1, 0, 1000.0), row(2, 0, 1003.0), row(3, 1, 9000.0), row(4, 1, 9001.5)]
    assert clock(rows) == {"step": [0, 1, 2, 3, 4], "seconds": [0, 2, 5, 7, 8.5], "tokens": [0, 100, 200, 300, 400]}
    assert clock([]) == {"step": [], "seconds": [], "tokens": []}
    many = [row(step, 0, float(step)) for step in range(1, 10_001)]
    kept = clock(many)["step"]
    assert len(kept) == 400 and (kept[0], kept[-1]) == (0, 10_000)


def test_the_standard_error_of_a_metric_is_found():
    names = ["a/mean", "a/standard_error", "b", "b_standard_error", "c"]
    assert errors_of("a/mean", names) == "a/standard_error"
    assert errors_of("b", names) == "b_standard_error"
    assert errors_of("c", names) is None
