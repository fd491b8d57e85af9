"""What a report is made of, expected values by hand."""

import json

from ostinato.experiment.report_data import drawn_part, labels, report_data
from tests.experiment.reports import evaluation, train, write_run, write_samples


def test_labels_hold_as_much_of_the_path_as_tells_apart(tmp_path):
    a, b, c = tmp_path / "s1/sft", tmp_path / "s2/sft", tmp_path / "s2/dpo"
    assert labels([a, b, c]) == ["s1/sft", "s2/sft", "dpo"]
    assert labels([tmp_path / "x/r/sft", tmp_path / "y/r/sft"]) == ["x/r/sft", "y/r/sft"]


def test_seeds_are_grouped_and_options_that_differ_come_first(tmp_path):
    config = "experiment: {{name: {0}, seed: {1}}}\ntraining: {{learning_rate: {2}}}\n{3}: {{k: 1}}\n"
    runs = [("one-seed1", 1, 0.1, "a"), ("one-seed2", 2, 0.1, "a"), ("two", 1, 0.2, "b")]
    folders = [
        write_run(tmp_path, name, train(4, start), config=config.format(name, seed, rate, only), group=f"group{rate}")
        for (name, seed, rate, only), start in zip(runs, (2.0, 4.0, 8.0), strict=True)
    ]
    data = report_data(folders)
    assert data["groups"] == [{"hash": "group0.1", "runs": [0, 1], "label": "one (2 seeds)"}]
    chart = next(chart for chart in data["charts"] if chart["metric"] == "loss")
    assert [line["run"] for line in chart["lines"]] == [0, 1, 2]
    assert [(band["group"], band["value"][:2], band["low"][0], band["high"][0]) for band in chart["bands"]] == [
        (0, [3, 1.5], 2, 4)
    ]
    differing = {row["key"]: (row["values"], row["partial"]) for row in data["differing"]}
    assert differing == {
        "experiment.seed": (["1", "2", "1"], False),
        "training.learning_rate": (["0.1", "0.1", "0.2"], False),
        "a.k": (["1", "1", None], True),
        "b.k": ([None, None, "1"], True),
    }
    assert [row["key"] for row in data["options"]][0] == "experiment.name"
    json.dumps(drawn_part(data), allow_nan=False)


def test_evaluations_have_intervals_and_the_best_step(tmp_path):
    rows = [evaluation(0, 0.25, 0.02), evaluation(5, 0.75, 0.01), evaluation(10, 0.5, 0.03)]
    (row,) = report_data([write_run(tmp_path, "a", rows)])["evaluations"]
    assert row["metric"] == "validation/reward/mean"
    (cell,) = row["cells"]
    assert cell["first"] == {"step": 0, "value": 0.25, "half": 1.96 * 0.02}
    assert cell["last"] == {"step": 10, "value": 0.5, "half": 1.96 * 0.03}
    assert cell["best"] == {"step": 5, "value": 0.75, "half": 1.96 * 0.01}


def test_failures_and_rewinds_are_marks_and_old_tails_are_not_drawn(tmp_path):
    rows = [*train(6), {"kind": "rewind", "step": 4, "segment": 1}, {"kind": "train", "step": 5, "loss": 9.0}]
    rows += [{"kind": "event", "step": 5, "event": "spike", "loss": 9.0}]
    rows += [{"kind": "event", "step": 5, "event": "checkpoint_saved"}]
    data = report_data([write_run(tmp_path, "a", rows, status={"state": "failed", "step": 5, "reason": "not finite"})])
    marks = data["runs"][0]["marks"]
    assert [(mark["step"], mark["kind"]) for mark in marks] == [(4, "rewind"), (5, "failure"), (5, "event")]
    texts = ["resumed after step 4 (segment 1)", "failed: not finite", "spike: loss 9.0"]
    assert [mark["text"] for mark in marks] == texts
    loss = next(chart for chart in data["charts"] if chart["metric"] == "loss")["lines"][0]
    assert loss["step"] == [1, 1, 1, 1, 1] and loss["value"][-1] == 9


def test_samples_stand_side_by_side_at_equal_steps(tmp_path):
    a, b = write_run(tmp_path, "a", train(1)), write_run(tmp_path, "b", train(1))
    drawn = [{"prompt": f"{n // 8}?", "response": str(n), "score": 1.0} for n in range(32)]
    for folder, steps in ((a, (2, 4, 6)), (b, (2, 4))):
        for step in steps:
            write_samples(folder, step, drawn)
    (b / "outputs/samples/step_00000004.jsonl").write_text("{\n{\n")
    found = report_data([a, b])["samples"]
    assert [(step["step"], step["open"], [column["count"] for column in step["columns"]]) for step in found] == [
        (2, False, [32, 32]),
        (4, True, [32, 0]),
        (6, False, [32, 0]),
    ]
    texts = [row["text"] for row in found[0]["columns"][0]["rows"]]
    assert texts == ["0", "1", "2", "8", "9", "10", "16", "17", "18", "24", "25", "26"]  # three of each prompt
    assert "is no sample" in found[1]["columns"][1]["problem"]


def test_a_metric_that_never_changed_is_a_number_and_not_a_curve(tmp_path):
    data = report_data([write_run(tmp_path, "a", train(5, stop=1.0))])
    assert data["constants"] == {"stop": 1, "tokens": 64, "perf/seconds": 0.5}
    assert [chart["metric"] for chart in data["charts"]] == ["loss"]


def test_what_is_missing_or_damaged_is_missing_in_the_report(tmp_path):
    bare = write_run(tmp_path, "bare", [])
    for path in ("status.json", "config.yaml", "logs/metrics.jsonl"):
        (bare / path).unlink()
    damaged = write_run(tmp_path, "damaged", [{"kind": "train", "step": 1, "loss": "nan"}])
    (damaged / "metadata.json").write_text("[1")
    (damaged / "config.yaml").write_text("a: [")
    with (damaged / "logs/metrics.jsonl").open("ab") as file:
        file.write(b'\xff\n{"kind":"train"}\n7\n{"kind":"train","step":2,"loss":null}\n{"kind":"tr')
    data = report_data([bare, damaged])
    assert [run["facts"]["state"] for run in data["runs"]] == ["damaged", "completed"]
    assert [(chart["metric"], chart["lines"][0]["value"]) for chart in data["charts"]] == [("loss", [None])]


def test_points_are_shared_out_and_what_has_no_room_is_named(tmp_path):
    """Two runs, ten metrics of 3,000 steps: the six charts on top whole, the others with what is left."""
    names = [f"metric{n}" for n in range(10)]
    rows = [
        {"kind": "train", "step": step, **{name: float(step % (7 + place)) for place, name in enumerate(names)}}
        for step in range(1, 3001)
    ]
    data = report_data([write_run(tmp_path, name, rows) for name in ("a", "b")])
    lengths = [len(chart["lines"][0]["step"]) for chart in data["charts"]]
    assert all(1998 <= length <= 2000 for length in lengths[:6])  # 999 buckets, the first, the last
    assert 1200 <= lengths[6] <= 1250  # 10,000 / (4 metrics x 2 runs)
    assert data["left_out"] == []
    short = [{"kind": "train", "step": step, **{f"m{n}": float(step + n) for n in range(120)}} for step in range(1, 41)]
    many = report_data([write_run(tmp_path / "many", f"run{n}", short) for n in range(16)])
    assert len(many["charts"]) == 34_000 // (16 * 40)
    assert len(many["left_out"]) == 120 - len(many["charts"])
