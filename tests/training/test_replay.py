"""Replayed rows are compared with what was written before the interruption."""

import pytest

from ostinato.training.replay import Replay, ReplayMismatch

OLD = {
    "kind": "train",
    "step": 3,
    "segment": 0,
    "time": 1.0,
    "loss": 0.1,
    "data": "ab",
    "tokens": 5,
    "perf": {"seconds": 1},
}


def replay(policy: str = "stop", exact: bool = True) -> tuple[Replay, list[str]]:
    said: list[str] = []
    return Replay([OLD], exact=exact, policy=policy, report=lambda step, text: said.append(text)), said


def test_time_segment_and_perf_may_differ() -> None:
    replay()[0].check({**OLD, "time": 9.0, "segment": 1, "perf": {}})


@pytest.mark.parametrize("change", [{"loss": 0.10000000000000002}, {"data": "ac"}, {"extra": 1.0}])
def test_any_reproducible_field_stops(change: dict[str, object]) -> None:
    name = next(iter(change))
    with pytest.raises(ReplayMismatch, match=f"replayed step 3: {name} was"):
        replay()[0].check({**OLD, **change})


def test_warn_reports_once() -> None:
    made, said = replay("warn")
    made.check({**OLD, "loss": 7.0})
    assert len(said) == 1 and "loss was 0.1" in said[0]


def test_fast_compares_what_does_not_depend_on_bits() -> None:
    replay(exact=False)[0].check({**OLD, "loss": 7.0})
    with pytest.raises(ReplayMismatch, match="tokens"):
        replay(exact=False)[0].check({**OLD, "tokens": 6})


def test_not_finite_numbers_are_equal_to_their_text() -> None:
    made = Replay([{**OLD, "loss": "nan"}], exact=True, policy="stop", report=lambda *_: None)
    made.check({**OLD, "loss": float("nan")})
