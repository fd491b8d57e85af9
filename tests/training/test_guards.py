"""Losses that are not finite, and losses that jump."""

import pytest
import torch
from torch import nn

from ostinato.core.errors import OstinatoError
from ostinato.training.guards import WINDOW, LossGuard, NotFinite, Rewind


def guard(on_nonfinite: str = "stop", on_spike: str = "warn") -> tuple[LossGuard, list[str]]:
    events: list[str] = []
    return LossGuard(on_nonfinite, on_spike, lambda name, step, **fields: events.append(name)), events


def filled(on_spike: str) -> tuple[LossGuard, list[str]]:
    made, events = guard(on_spike=on_spike)
    for step in range(WINDOW):
        assert made.allows(step + 1, 2.0 + 0.01 * (step % 5), 1.0, [], [])
    return made, events


def test_stop_names_step_micro_batch_and_parameter() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.zeros(1, 2)
    model.bias.grad = torch.tensor([float("nan")])
    made, _ = guard()
    with pytest.raises(NotFinite, match=r"step 7: .*micro-batch 1; first bad parameter: bias"):
        made.allows(7, float("nan"), float("nan"), [1.0, float("nan")], model.named_parameters())


def test_skip_goes_on_and_stops_after_ten_in_a_row() -> None:
    made, events = guard(on_nonfinite="skip")
    for step in range(1, 10):
        assert not made.allows(step, float("inf"), 1.0, [], [])
    with pytest.raises(NotFinite, match="10 steps in a row"):
        made.allows(10, float("inf"), 1.0, [], [])
    assert events == ["skipped_step"] * 10


@pytest.mark.parametrize(("policy", "applied"), [("warn", True), ("skip", False)])
def test_a_spike_is_recorded_and_applied_or_not(policy: str, applied: bool) -> None:
    made, events = filled(policy)
    # median 2.02, median absolute deviation 0.01: six robust deviations are 0.089 above
    assert made.allows(200, 2.10, 1.0, [], []) is True and events == []
    assert made.allows(201, 2.13, 1.0, [], []) is applied
    assert events[0] == "spike"


def test_a_spike_rewinds_at_most_three_times() -> None:
    made, _ = filled("rewind")
    for _ in range(3):
        with pytest.raises(Rewind):
            made.allows(200, 9.0, 1.0, [], [])
    with pytest.raises(OstinatoError, match="after 3 rewinds"):
        made.allows(200, 9.0, 1.0, [], [])


def test_the_window_survives_a_resume() -> None:
    made, _ = filled("warn")
    again, events = guard()
    again.load_state(made.state())
    assert again.window == made.window
    again.allows(300, 9.0, 1.0, [], [])
    assert events == ["spike"]
