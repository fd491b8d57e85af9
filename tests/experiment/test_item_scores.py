"""Scores item by item: what is read, what is refused, how repetitions are averaged and tested."""

import json

import pytest

from ostinato.core.errors import RefusedError
from ostinato.experiment.item_scores import read_item_scores
from ostinato.experiment.item_tests import compare_items


def write(run, *rows, task="sums", end="\n"):
    """Rows (id, score, further keys) of a task, with the hash h unless they say another."""
    path = run / "outputs" / "eval" / task / "samples.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = [{"id": item, "score": score, "task_hash": "h"} | (more[0] if more else {}) for item, score, *more in rows]
    path.write_text("\n".join(json.dumps(row) for row in found) + end)
    return run


def test_scores_are_read_by_item(tmp_path):
    write(tmp_path, (1, 0.5), ("1", True, {"cluster": "c", "text": "é"}), ([2, "x"], 0), end="\n" + '{"id": 7')
    (found,) = read_item_scores(tmp_path).values()
    assert (found.task, found.task_hash) == ("sums", "h")
    assert found.scores == {"1": 0.5, '"1"': 1.0, '[2, "x"]': 0.0}
    assert found.clusters['"1"'] == ("cluster", '"c"')
    assert read_item_scores(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([(1, 0), (1, 1)], ":2: damaged: id 1 is there twice"),
        ([(1, 0), (2, 1, {"task_hash": "other"})], ":2: damaged: task_hash 'other', the lines before have 'h'"),
        ([(1, "much")], ":1: damaged: "),
        ([(1, None)], ":1: damaged: "),
        ([(1, float("nan"))], "with a finite score"),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path, rows, problem):
    write(tmp_path, *rows)
    with pytest.raises(RefusedError) as caught:
        read_item_scores(tmp_path)
    assert problem in str(caught.value)


def test_groups_are_compared_by_the_mean_of_each_item(tmp_path):
    """Items 1 and 2: means 0.5 and 0 against 1 and 0.5: both differ by 0.5. Item 3 is not in all of the runs."""
    first = [write(tmp_path / "a1", (1, 0), (2, 0), (3, 1)), write(tmp_path / "a2", (1, 1), (2, 0))]
    second = [write(tmp_path / "b1", (1, 1), (2, 1)), write(tmp_path / "b2", (1, 1), (2, 0))]
    (found,), notes = compare_items(first, second)
    assert (found.result.difference, found.result.items, found.unpaired, notes) == (0.5, 2, 1, [])
    assert found.result.test.startswith("permutation")
    assert found.result.p_value == pytest.approx(0.5, abs=0.03)  # of four pairs of signs two are as far from 0


def test_why_a_task_is_not_tested(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    write(a, (1, 0), task="only")
    write(a, (1, 0), task="items")
    write(b, (2, 0), task="items")
    write(a, (1, 0), task="hash")
    write(b, (1, 0, {"task_hash": "x"}), task="hash")
    tests, notes = compare_items([a], [b])
    assert tests == []
    assert [note.partition(":")[0] for note in notes] == ["hash", "items", "only"]
