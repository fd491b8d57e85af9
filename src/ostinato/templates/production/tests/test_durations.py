"""The task by hand, and that a row is a pure function of seed and number."""

import runpy
from pathlib import Path

from {{name}}.data.durations import Durations

ROOT = Path(__file__).parents[1]


def test_minutes_by_hand():
    rows = Durations(0)
    assert rows.problem(95) == {"prompt": "0095=", "response": "01:35", "answer": "01:35"}
    assert rows.problem(0)["answer"] == "00:00" and rows.problem(2879)["answer"] == "47:59"


def test_held_out_durations_are_not_among_the_trained():
    train, held_out = Durations(3, size=2500), Durations(3, first=2500, size=380)
    prompts = {row["prompt"] for row in train} | {row["prompt"] for row in held_out}
    assert len(prompts) == 2880 == 48 * 60
    assert held_out[0] == Durations(3, first=2500, size=1)[0] != Durations(4, first=2500, size=1)[0]


def test_grading_by_hand():
    wrong = runpy.run_path(str(ROOT / "scripts" / "grade.py"))["wrong"]
    rows = [{"text": "01:35", "answer": "01:35"}, {"text": "01:36", "answer": "01:35"}]
    assert wrong(rows) == rows[1:]
