"""`ostinato runs compare`: tables, groups, curves, tests by item, assertions; as a user calls it, without torch."""

import json
import math

import pytest

from tests.cli.test_runs_verbs import ostinato
from tests.experiment.making import start_run
from tests.experiment.test_listing import made_run, write_rows

BASE = {"slow": 1e-4, "fast": 3e-4}
LOSSES = {"slow-1": 1.0, "slow-2": 2.0, "slow-3": 3.0, "fast-1": 0.5}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three seeds of a slow learning rate with last losses 1, 2, 3, one run of a fast one with 0.5."""
    folder = tmp_path_factory.mktemp("compare")
    for name, last in LOSSES.items():
        kind, _, seed = name.partition("-")
        overrides = [f"optimizer.learning_rate={BASE[kind]}", f"experiment.seed={seed}"]
        run = start_run(folder, *(o.replace("optimizer.", "training.") for o in overrides), name=name)
        for step in (1, 2, 3):
            run.metrics.write({"step": step, "loss": last + 3 - step, "note/nan": float("nan")})
        run.metrics.write({"kind": "eval", "step": 3, "validation/loss": last, "validation/accuracy": 1 - last / 10})
        run.finish("completed")
    return folder / "experiments"


def compared(root, *arguments):
    done = ostinato("compare", *arguments, "--root", root, "--json")
    assert done.returncode in (0, 4), done.stderr
    return json.loads(done.stdout)


def write_scores(root, run, scores, task="sums", task_hash="h1", clusters=None):
    folder = root / run / "outputs" / "eval" / task
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"id": i, "score": score, "task_hash": task_hash, "text": "✓"} for i, score in enumerate(scores)]
    for row, cluster in zip(rows, clusters or [], strict=bool(clusters)):
        row["cluster"] = cluster
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"id": 99, "sc')


def test_repetitions_are_one_row_with_an_interval(root):
    found = compared(root, *LOSSES)
    assert found["options"] == ["experiment.seed", "training.learning_rate"]
    assert found["metrics"] == ["loss", "validation/loss", "validation/accuracy"]
    slow, fast = found["rows"]
    assert (slow["row"], slow["label"], slow["runs"]) == ("A", "slow-1 +2", ["slow-1", "slow-2", "slow-3"])
    assert slow["options"] == {"experiment.seed": [1, 2, 3], "training.learning_rate": [1e-4]}
    loss = slow["metrics"]["validation/loss"]
    assert loss == {"mean": 2.0, "half_width": pytest.approx(4.3027 / math.sqrt(3), abs=1e-4), "n": 3}
    assert fast["metrics"]["validation/loss"] == {"mean": 0.5, "half_width": None, "n": 1}


def test_the_table(root):
    done = ostinato("compare", *LOSSES, "--root", root, "--metrics", "validation/loss")
    assert done.stdout.splitlines() == [
        "   run        experiment.seed  training.learning_rate  validation/loss",
        "A  slow-1 +2  1, 2, 3          0.0001                  2.0000 ± 2.4841 (3)",
        "B  fast-1     1                0.0003                  0.5000",
    ]


def test_every_run_alone_and_chosen_by_what_it_is(root):
    found = compared(root, "--where", "training.learning_rate=1e-4", "--no-group")
    assert [row["runs"] for row in found["rows"]] == [["slow-1"], ["slow-2"], ["slow-3"]]
    assert found["options"] == ["experiment.seed"]


def test_a_second_run_of_a_seed_is_no_repetition(tmp_path):
    """Seeds 1, 2, and 1 again: the last would make an interval narrower that it says nothing about."""
    for name, seed in (("first", 1), ("second", 2), ("again", 1)):
        start_run(tmp_path, f"experiment.seed={seed}", name=name).finish("completed")
    rows = compared(tmp_path / "experiments", "first", "second", "again")["rows"]
    assert [row["runs"] for row in rows] == [["first", "second"], ["again"]]


@pytest.mark.parametrize(("at", "loss"), [("last", 1.0), ("best", 1.0), ("1", 3.0), ("2", 2.0), ("9", None)])
def test_the_value_of_a_step(root, at, loss):
    (row,) = compared(root, "slow-1", "--at", at, "--metrics", "loss")["rows"]
    assert (row["metrics"]["loss"] or {}).get("mean") == loss


def test_best_knows_which_way_is_better_and_says_if_not(root):
    found = compared(root, "slow-1", "--at", "best")
    assert found["rows"][0]["metrics"]["validation/accuracy"]["mean"] == 0.9
    done = ostinato("compare", "slow-1", "--root", root, "--at", "best", "--metrics", "note/nan")
    assert (done.returncode, "is not known from its name" in done.stderr) == (2, True)


def test_curves_are_on_one_scale(root):
    """Means 4, 3, 2 with t(2) / sqrt(3) = 2.484 around, and 2.5, 1.5, 0.5: eight signs from -0.484 to 6.484."""
    done = ostinato("compare", *LOSSES, "--root", root, "--metrics", "loss", "--plot", "loss")
    assert done.stdout.splitlines()[4:] == [
        "loss",
        "              +95 %      6.484 █▇▆ 4.484",
        "A  slow-1 +2  steps 1-3  4 ▆▅▃ 2",
        "              -95 %      1.516 ▃▂▁ -0.4841",
        "B  fast-1     steps 1-3  2.5 ▄▃▂ 0.5",
    ]
    rows = compared(root, *LOSSES, "--plot", "loss")["rows"]
    assert rows[1]["curves"]["loss"][0] == {"step": 1, "mean": 2.5, "half_width": None, "n": 1}


def test_two_runs_are_tested_item_by_item(root):
    """1 against 5 discordant of 10: p = 14/64 by McNemar; the second task has p = 1, so Holm doubles the first."""
    write_scores(root, "slow-1", [0, 0, 0, 0, 0, 1, 1, 1, 0, 0])
    write_scores(root, "fast-1", [1, 1, 1, 1, 1, 0, 1, 1, 0, 0])
    for run in ("slow-1", "fast-1"):
        write_scores(root, run, [0.5, 0.25, 0.5], "essays", clusters=["a", "a", "b"])
        write_scores(root, run, [1], "other", task_hash=run)
    found = compared(root, "slow-1", "fast-1")
    essays, sums = found["tests"]
    assert sums["result"]["difference"] == pytest.approx(0.4)
    assert (sums["result"]["p_value"], sums["p_holm"], sums["result"]["test"]) == (14 / 64, 28 / 64, "McNemar exact")
    assert (essays["result"]["p_value"], essays["result"]["clusters"]) == (1.0, 2)
    assert found["notes"] == ["other: not the same task: other items, prompts or scoring (task_hash)"]
    text = ostinato("compare", "slow-1", "fast-1", "--root", root).stdout
    assert "sums           +0.4000 ± 0.5002  0.2188  0.4375    0.6955" in text
    assert "3 in 2 clusters" in text


def test_three_rows_are_not_tested_and_a_damaged_score_is_refused(root):
    found = compared(root, *LOSSES, "--no-group")
    assert (found["tests"], found["notes"]) == ([], ["scores item by item are tested between two rows: name two"])
    write_scores(root, "slow-2", [1])
    path = root / "slow-2" / "outputs" / "eval" / "sums" / "samples.jsonl"
    path.write_text('{"id": 1, "score": NaN, "task_hash": "h1"}\n')
    done = ostinato("compare", "slow-1", "slow-2", "--root", root, "--no-group")
    assert (done.returncode, "samples.jsonl:1: damaged" in done.stderr) == (3, True)
    path.unlink()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("B.validation/loss < A.validation/loss + 0.01", True),
        ("B.validation/loss > A.validation/loss", False),
        ("slow-3.loss - slow-1.loss >= 2 * (1.5 - 0.5)", True),
        ("A.loss <= -2", False),
        ("A.note/nan < 1", False),
        ("A.note/nan >= 1", False),
    ],
)
def test_assertions(root, text, holds):
    done = ostinato("compare", *LOSSES, "--root", root, "--assert", text)
    assert done.returncode == (0 if holds else 4), done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{'holds' if holds else 'FALSE'}: {text}   (")


def test_a_false_assertion_names_the_numbers(root):
    done = ostinato("compare", *LOSSES, "--root", root, "--assert", "B.loss > A.loss", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["assertions"] == [
        {"text": "B.loss > A.loss", "left": 0.5, "right": 2.0, "holds": False}
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name runs, or choose them"),
        (["slow-1", "--where", "state=completed"], "name runs, or choose them"),
        (["--where", "state=failed"], "no runs like that"),
        (["slow-9"], "Did you mean slow-"),
        (["slow-1", "--metrics", "validation/los"], "Did you mean validation/loss"),
        (["slow-1", "--plot", "x"], "has a metric of this name"),
        (["slow-1", "--at", "first"], "write best, last or a step"),
        (["slow-1", "--assert", "A.loss"], "expected < <= > or >="),
        (["slow-1", "--assert", "A.los < 1"], "A has no such metric (loss"),
        (["slow-1", "--assert", "Z.loss < 1"], "(runs: A, slow-1)"),
        (["slow-1", "--assert", "__import__('os') < 1"], "expected a number or RUN.METRIC"),
        (["slow-1", "--assert", "1 < 2 < 3"], "expected the end"),
        (["slow-1", "--assert", "(" * 99 + "1"], "too deep"),
    ],
)
def test_mistakes_exit_2(root, arguments, message):
    done = ostinato("compare", *arguments, "--root", root)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_and_old_runs_are_compared_as_far_as_they_go(root, tmp_path):
    run = start_run(tmp_path, name="odd")
    run.finish("failed", reason="x")
    (run.folder / "config.yaml").chmod(0o644)
    (run.folder / "config.yaml").write_text("a: [")
    (run.folder / "metadata.json").write_text('{"version": 1}')
    found = compared(root, "slow-3", run.folder)
    assert found["rows"][1]["metrics"]["loss"] is None
    assert found["notes"] == ["odd is failed: its last values are not final"]


def test_values_that_are_no_numbers_and_records_of_odd_types(tmp_path):
    """A list or a text is no metric; a name may be of any letters; a run may be called like a row."""
    a, b = made_run(tmp_path, "A", losses=[1.0, 2.0]), made_run(tmp_path, "b-1.x", losses=[3.0])
    (a / "metadata.json").write_text('{"version": 1, "lineage": [1], "hashes": null}')
    row = {"kind": "train", "step": 1, "é/λ": 1.5, "text": "hi", "list": [1], "loss": "inf"}
    write_rows(b, [row, {**row, "step": 2}])
    found = compared(tmp_path, "b-1.x", "A", "--assert", "b-1.x.é/λ < A.loss", "--assert", "b-1.x.loss > B.loss")
    assert [answer["holds"] for answer in found["assertions"]] == [True, True]
    assert [row["metrics"]["loss"]["mean"] for row in found["rows"]] == ["inf", 2.0]
    assert [row["options"]["training.learning_rate"] for row in found["rows"]] == [[1e-5], [2e-5]]
    done = ostinato("compare", "b-1.x", "--root", tmp_path, "--metrics", "text")
    assert (done.returncode, "has a metric of this name" in done.stderr) == (2, True)
