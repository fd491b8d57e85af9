"""`-o KEY=VALUE`."""

from __future__ import annotations

import pytest


def test_a_plain_value_is_taken_byte_for_byte(project):
    for text in [
        "a=b",
        "a, b",
        "a: b",
        "a #b",
        "50%",
        "@x",
        "*y",
        "&z",
        "[unclosed",
        "'a' b",
        "{a: 1} x",
        " s ",
        "- x",
    ]:
        assert project.load("b.yaml", f"experiment.notes={text}").experiment.notes == text


def test_flow_values(project):
    config = project.load(
        "b.yaml", "experiment.tags=[x, 'y z']", 'experiment.extra={a: {b: 1e-5}, "c": [1]}', 'experiment.notes="q"'
    )
    assert config.experiment.tags == ("x", "y z")
    assert config.experiment.extra == {"a": {"b": 1e-05}, "c": (1,)}
    assert config.experiment.notes == "q"


def test_an_empty_value_is_the_empty_string(project):
    assert project.load("b.yaml", "experiment.notes=").experiment.notes == ""
    assert project.load("b.yaml", "experiment.name=").experiment.name == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training..x=1", "an empty part"),
        (".x=1", "an empty part"),
        ("=1", "no KEY"),
        ("training.total_steps", "an override sets a value"),
        ("experiment.tags[0]=a", "elements of lists cannot be set"),
    ],
)
def test_keys_that_cannot_be_read(project, text, message):
    (mistake,) = project.mistakes("b.yaml", text)
    assert message in mistake and mistake.startswith(f"-o {text}  ")


def test_an_unknown_key_suggests_the_nearest_and_no_way_to_force_it(project):
    (mistake,) = project.mistakes("b.yaml", "training.learning_rte=1")
    assert mistake == (
        "-o training.learning_rte=1  training.learning_rte: unknown key. Did you mean training.learning_rate?\n"
        "  b.yaml:1 sets training.learning_rate to 3e-4"
    )
    (mistake,) = project.mistakes("b.yaml", "trainng.learning_rte=1")
    assert "trainng.learning_rte: unknown key. Did you mean training.learning_rate?" in mistake


def test_a_mistake_of_type_says_what_it_would_replace(project):
    assert project.mistakes("b.yaml", "training.total_steps=abc") == [
        "-o training.total_steps=abc  training.total_steps: expected int, got str 'abc'\n  b.yaml:1 sets it to 10"
    ]


def test_operators(project):
    project.write(c="optimizer: {name: sgd, momentum: 0.5}")
    config = project.load("c.yaml", "optimizer!={name: sgd}")
    assert config.optimizer.options["momentum"] != 0.5
    assert project.load("b.yaml", "experiment.tags+=[c]").experiment.tags == ("a", "b", "c")
