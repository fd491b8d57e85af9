"""YAML 1.2's core schema, types, and what each refuses."""

from __future__ import annotations

import pytest

from ostinato.core.scalars import read_plain, write_scalar


@pytest.mark.parametrize(("text", "value"), [("1e-5", 1e-05), ("1E5", 1e5), (".5e3", 500.0), ('"1e-5"', 1e-05)])
def test_numbers_are_read_as_floats_in_files_and_overrides(project, text, value):
    project.write(c=f"training:\n  learning_rate: {text}\n  total_steps: 1e3\n")
    training = project.load().training
    assert (training.learning_rate, type(training.learning_rate)) == (value, float)
    assert (training.total_steps, type(training.total_steps)) == (1000, int)
    same = project.load("b.yaml", f"training.learning_rate={text}", "training.total_steps=1e3").training
    assert (same.learning_rate, same.total_steps) == (value, 1000)


@pytest.mark.parametrize("text", ["on", "no", "1:30", "2026-11-23", "0777", "1_000", "1e5", "true", "0xff", "+1", "y"])
def test_text_stays_as_written(project, text):
    assert project.write(c=f"experiment: {{notes: {text}}}").load().experiment.notes == text
    assert project.load("b.yaml", f"experiment.notes={text}").experiment.notes == text


def test_no_bool_but_true_and_false(fails):
    assert fails("training:\n  compile: on\n") == [
        "c.yaml:2:12  training.compile: expected bool, got str 'on'. Write true.",
    ]
    assert "Write false." in fails("training: {compile: 0}")[0]
    assert "Write true or false." in fails("training: {compile: maybe}")[0]


def test_five_types_refused_at_their_values(fails):
    text = "training:\n  total_steps: true\n  batch_size: 10.5\n  learning_rate: true\n  max_grad_norm: .nan\n"
    assert fails(text + "experiment:\n  tags: a\n") == [
        "c.yaml:2:16  training.total_steps: expected int, got bool true",
        "c.yaml:3:15  training.batch_size: expected int, got float 10.5. Write a whole number.",
        "c.yaml:4:18  training.learning_rate: expected float, got bool true",
        "c.yaml:5:18  training.max_grad_norm: expected float, got float .nan. Write a finite number.",
        "c.yaml:7:9  experiment.tags: expected list[str], got str 'a'. Write [a].",
    ]


def test_literals_by_text_with_the_nearest(fails):
    assert fails("training: {mixed_precision: bf61}")[0].endswith("Write one of fp32, bf16. Did you mean bf16?")


def test_null_only_where_allowed(fails, project):
    assert project.write(c="training: {max_grad_norm: null}").load().training.max_grad_norm is None
    assert fails("training: {learning_rate: ~}") == [
        "c.yaml:1:27  training.learning_rate: expected float, got null",
    ]
    assert fails("training:\n") == ["c.yaml:1:10  training: expected a map, got null. Write {...} or remove it."]


def test_bounds(fails):
    assert fails("data: {validation_fraction: 1}\ntraining: {total_steps: 0}") == [
        "c.yaml:1:29  data.validation_fraction: must be < 1, got 1.0. Write such a number.",
        "c.yaml:2:25  training.total_steps: must be > 0, got 0. Write such a number.",
    ]


def test_tuples_and_unions(project, fails):
    assert project.write(c="logging: {profile: [3, 5]}").load().logging.profile == (3, 5)
    assert "got a list of 1" in fails("logging: {profile: [3]}")[0]
    assert fails("logging: {profile: [3, x]}") == ["c.yaml:1:24  logging.profile[1]: expected int, got str 'x'"]


def test_a_nested_list_names_its_element(fails):
    assert fails("experiment:\n  tags: [a, null]\n") == [
        "c.yaml:2:13  experiment.tags[1]: expected str, got null",
    ]


@pytest.mark.parametrize(
    "text", ["", "~", "null", "true", "0o17", "0xff", "-7", "1e-5", ".5", "5.", ".inf", "-.INF", "1.5e+3"]
)
def test_what_is_not_a_string_is_written_so_that_it_reads_the_same(text):
    value = read_plain(text)
    assert not isinstance(value, str)
    if value not in (float("inf"), float("-inf")):
        assert read_plain(write_scalar(value)) == value


ODD = [
    "",
    " a ",
    "a\nb",
    "\x85\u2028\x7f\x01",
    "🙂é",
    "${X}",
    "$${X}",
    "a: b",
    "- a",
    "#a",
    "null",
    "1",
    "'",
    '"',
    "*",
    "\\",
]


def test_every_string_is_written_so_that_it_reads_the_same(project):
    project.write(c="experiment:\n  extra:\n" + "".join(f"    k{i}: {write_scalar(t)}\n" for i, t in enumerate(ODD)))
    config = project.load()
    assert list(config.experiment.extra.values()) == ODD
    assert project.write(frozen=config.to_yaml()).load("frozen.yaml").to_yaml() == config.to_yaml()
