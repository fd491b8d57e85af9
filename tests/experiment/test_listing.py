"""Listing, choosing and sorting runs."""

import json
import time

import pytest

from ostinato.core.errors import UserError
from ostinato.core.manifest import write_json
from ostinato.experiment.facts import best_values, run_facts
from ostinato.experiment.finding import find_run
from ostinato.experiment.listing import last_rows, summaries
from ostinato.experiment.selecting import matcher, sort_runs
from tests.experiment.making import start_run


def made_run(root, name, algorithm="sft", losses=(), **status):
    """A finished run's folder, written by hand."""
    folder = root / name
    (folder / "provenance").mkdir(parents=True)
    (folder / "logs").mkdir()
    created = "2026-11-23T20:21:00Z"
    write_json(
        folder / "metadata.json",
        {"version": 1, "name": name, "algorithm": algorithm, "created": created},
        durable=False,
    )
    write_json(folder / "status.json", {"version": 1, "state": "completed", "total_steps": 10, **status}, durable=False)
    (folder / "config.yaml").write_text(f"training:\n  learning_rate: {len(losses)}e-05\n  compile: false\n")
    write_rows(
        folder, [{"kind": "train", "step": i, "segment": 0, "time": 0, "loss": x} for i, x in enumerate(losses, 1)]
    )
    return folder


def write_rows(folder, rows):
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
    (folder / "logs" / "metrics.jsonl").write_text("".join(lines))


def names(runs):
    return [run["name"] for run in runs]


def test_a_thousand_runs_are_listed_in_time(tmp_path):
    """Below 1.5 s of work, whatever else the machine is doing."""
    for number in range(1000):
        made_run(tmp_path, f"run{number:04d}", losses=[1.0] * 40)
    start = time.process_time()
    runs = summaries(tmp_path)
    spent = time.process_time() - start
    assert len(runs) == 1000
    assert (runs[0]["step"], runs[0]["loss"], runs[0]["state"]) == (40, 1.0, "completed")
    assert spent < 1.5


def test_last_values_are_those_that_count_however_far_back(tmp_path):
    folder = made_run(tmp_path, "a")
    train = {"kind": "train", "step": 1, "loss": 1.0, "note": "x" * 100}
    evaluation = {"kind": "eval", "step": 1, "validation/loss": 1.5}
    write_rows(folder, [train, evaluation, *[{**train, "step": step, "loss": 1 / step} for step in range(2, 2001)]])
    assert (folder / "logs" / "metrics.jsonl").stat().st_size > 2 * 65536
    last, last_evaluation = last_rows(folder)
    assert (last["step"], last_evaluation) == (2000, evaluation)
    rows = [train, {**train, "step": 2}, {**evaluation, "step": 2}, {"kind": "rewind", "step": 1}]
    write_rows(folder, rows)
    assert last_rows(folder) == (train, {})
    write_rows(folder, [*rows, {**train, "step": 2, "loss": 7.0}])
    assert last_rows(folder)[0]["loss"] == 7.0
    with open(folder / "logs" / "metrics.jsonl", "a") as file:
        file.write('{"kind":"train","step":3,"lo')  # torn
    assert last_rows(folder)[0]["step"] == 2


def test_where_and_sort(tmp_path):
    made_run(tmp_path, "a", "sft", [3.0, 1.0], tags=[])
    made_run(tmp_path, "b", "dpo", [2.0])
    made_run(tmp_path, "c", "sft", [5.0, 4.0, 6.0], reason="disk")
    runs = summaries(tmp_path)

    def chosen(expression):
        return names(filter(matcher(expression), runs))

    assert chosen("algorithm=sft") == ["a", "c"]
    assert chosen("algorithm=sft and loss<2") == ["a"]
    assert chosen("algorithm=dpo or loss >= 6") == ["b", "c"]
    assert chosen("training.learning_rate>1.5e-5") == ["a", "c"]
    assert chosen("training.compile=false and best(loss)<3") == ["a", "b"]
    assert chosen("best(loss)=4") == ["c"]
    assert chosen("reason=disk") == ["c"]
    assert chosen("reason=null") == ["a", "b"]
    assert chosen("algorithm!=sft") == ["b"]
    assert chosen("no_such_key<3") == []
    with pytest.raises(UserError, match="'loss' is no condition"):
        matcher("loss")
    assert names(sort_runs(runs, "loss")) == ["a", "b", "c"]
    assert names(sort_runs(runs, "-loss")) == ["c", "b", "a"]
    assert names(sort_runs(runs, "reason")) == ["c", "a", "b"]
    assert names(sort_runs(runs, "-training.learning_rate")) == ["c", "a", "b"]
    with pytest.raises(UserError, match="no run has 'lss'"):
        sort_runs(runs, "lss")


def test_an_unknown_run_is_told_the_nearest(tmp_path):
    for name in ("gsm8k-sft", "gsm8k-dpo", "other"):
        made_run(tmp_path, name)
    assert find_run("other", tmp_path) == tmp_path / "other"
    assert find_run(str(tmp_path / "other"), tmp_path) == tmp_path / "other"
    with pytest.raises(UserError, match="gsm8k-stf: no run of this name in .* Did you mean gsm8k-sft") as caught:
        find_run("gsm8k-stf", tmp_path)
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="There are no runs there"):
        find_run("x", tmp_path / "elsewhere")


def test_best_values_know_which_way_is_better():
    rows = [
        {"kind": "train", "step": 1, "loss": 2.0, "accuracy": 0.5, "tokens": 7},
        {"kind": "train", "step": 2, "loss": 1.0, "accuracy": 0.75, "tokens": 9},
        {"kind": "train", "step": 3, "loss": "nan", "accuracy": 0.7, "tokens": 1},
    ]
    assert best_values(rows) == {"loss": {"value": 1.0, "step": 2}, "accuracy": {"value": 0.75, "step": 2}}


def test_what_would_stop_a_reproduction(tmp_path):
    run = start_run(tmp_path)
    run.record(
        numerics="fast",
        data={"plan": "x", "sources": [{"name": "web", "kind": "sampled"}, {"name": "code", "kind": "full"}]},
        code=[
            {"role": "project", "tree": "a", "proved": True, "skipped": [{"path": "big.bin", "reason": "too large"}]}
        ],
    )
    run.finish("completed")
    assert run_facts(run.folder)["would_stop_a_reproduction"] == [
        "not captured: big.bin (too large)",
        "data fingerprint of web is sampled",
        "fast numerics",
    ]
    run.records.set(
        numerics="deterministic", data={"sources": []}, code=[{"role": "project", "tree": "a", "proved": True}]
    )
    assert run_facts(run.folder)["would_stop_a_reproduction"] == []


@pytest.mark.parametrize("file", ["metadata.json", "status.json"])
@pytest.mark.parametrize("wrong", [0, 1.5, "x", True, [], {}, ["x"], None])
def test_a_run_whose_files_hold_the_wrong_types_hides_no_other(tmp_path, file, wrong):
    made_run(tmp_path, "good", losses=[1.0])
    bad = made_run(tmp_path, "bad", losses=[1.0])
    written = json.loads((bad / file).read_text())
    for key in [*written, "tags", "hashes", "id", "seed", "reason", "updated", "step", "lineage", "command"]:
        (bad / file).write_text(json.dumps({**written, key: wrong}))
        assert sorted(names(sort_runs(summaries(tmp_path), "created"))) == ["bad", "good"]
        run_facts(bad)


def test_a_run_of_a_newer_format_is_listed_and_said_to_be_newer(tmp_path):
    made_run(tmp_path, "good", losses=[1.0])
    write_json(made_run(tmp_path, "future") / "metadata.json", {"version": 9}, durable=False)
    states = {run["name"]: (run["state"], run["reason"]) for run in summaries(tmp_path)}
    assert states["good"] == ("completed", None)
    assert states["future"][0] == "newer"
    assert "Use a newer ostinato" in states["future"][1]
