"""Training that ends early once a held-out metric is good enough."""

from pathlib import Path

import pytest

from ostinato.core.errors import UserError
from ostinato.training.goals import Goal
from tests.faults.processes import finish, rows
from tests.training.tiny import write_config


@pytest.mark.parametrize(
    ("text", "reached"), [("a/b <= 1.9", True), ("a/b<1.9", False), ("a/b >= 1.9", True), ("a/b > 2e-1", True)]
)
def test_a_goal_is_a_comparison(text, reached):
    assert Goal.of(text).reached({"a/b": 1.9}) is reached


@pytest.mark.parametrize("text", ["", "a/b", "a/b = 1", "a/b <= much", "a b <= 1"])
def test_what_is_no_goal_is_told(text):
    with pytest.raises(UserError, match="evaluation.stop_when: .* is no goal. Write metric, sign and number"):
        Goal.of(text)


def test_a_metric_that_is_not_measured_is_told_with_those_that_are():
    with pytest.raises(UserError, match="accuracy is not measured; there are: loss, perplexity"):
        Goal.of("accuracy > 1").reached({"loss": 1.0, "perplexity": 2.0})


def test_a_run_that_reaches_its_goal_is_completed_and_saved(tmp_path: Path):
    config, log = write_config(tmp_path, "sft"), tmp_path / "log"
    goal = ["-o", "evaluation.stop_when=validation/loss < 100", "-o", "logging.eval_interval=2"]
    assert finish(["train", str(config), "--name", "early", *goal], log) == 0, log.read_text()
    run = tmp_path / "experiments" / "early"
    assert max(row["step"] for row in rows(run)) == 2
    assert [path.name for path in (run / "checkpoints").glob("step_????????")] == ["step_00000002"]
    assert '"completed"' in (run / "status.json").read_text()
