"""Environment variables and references."""

from __future__ import annotations

import pytest


def load(project, text, **environ):
    return project.write(c=text).load(environ=environ)


def test_a_variable_is_read_as_if_it_stood_there(project):
    assert load(project, "training: {total_steps: '${N}'}", N="7").training.total_steps == 7
    assert load(project, "training:\n  total_steps: ${N}", N="1e3").training.total_steps == 1000
    assert load(project, "experiment:\n  name: ${N}", N="null").experiment.name is None
    assert load(project, "experiment:\n  name: ${N}", N="").experiment.name == ""
    assert load(project, "experiment:\n  name: '${N}'", N="null").experiment.name == "null"
    assert load(project, "experiment:\n  extra: {a: 'x${N}'}", N="1").experiment.extra["a"] == "x1"


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A:x}", {}, "x"),
        ("${A:x}", {"A": ""}, ""),
        ("${A:-x}", {"A": ""}, "x"),
        ("${A:-x}", {"A": "y"}, "y"),
        ("${A:}", {}, ""),
        ("${A:-a/b:c}", {}, "a/b:c"),
        ("$${A}", {}, "${A}"),
        ("a$${b$${c", {}, "a${b${c"),
        ("${A}/${B}", {"A": "1", "B": "2"}, "1/2"),
        ("${A}", {"A": "${B}", "B": "x"}, "${B}"),
        ("${A}", {"A": "[1, 2]"}, "[1, 2]"),
        ("${A}", {"A": "${ref:experiment.seed}"}, "${ref:experiment.seed}"),
    ],
)
def test_forms(project, text, environ, value):
    config = load(project, f"experiment:\n  notes: {text}\n", **environ)
    assert config.experiment.notes == value
    again = project.write(f=config.to_yaml()).load("f.yaml")
    assert (again.experiment.notes, again.full_hash) == (value, config.full_hash)


def test_an_unset_variable_says_what_to_do(fails):
    assert fails("experiment:\n  seed: ${SEED}\n") == [
        "c.yaml:2:9  experiment.seed: environment variable SEED is not set and has no default. "
        "Set it or write ${SEED:value}."
    ]


@pytest.mark.parametrize("text", ["${a}", "${", "${1A}", "${A B}", "x ${ref:experiment.seed}"])
def test_any_other_form_is_a_mistake(fails, text):
    assert len(fails(f"experiment:\n  notes: {text}\n", environ={"A": "1"})) == 1


def test_only_what_wins_is_expanded(project):
    project.write(base="experiment: {notes: '${UNSET}'}", c="_base_: base.yaml\nexperiment: {notes: x}")
    assert project.load().experiment.notes == "x"


def test_variables_in_overrides_and_bases_but_not_in_keys(project):
    project.write(c="_base_: ${B}.yaml\nexperiment: {extra: {'${B}': 1}}")
    config = project.load("c.yaml", "experiment.notes=${B}", environ={"B": "b"})
    assert (config.training.total_steps, config.experiment.notes) == (10, "b")
    assert list(config.experiment.extra) == ["${B}"]
    assert project.write(f=config.to_yaml()).load("f.yaml").full_hash == config.full_hash


def test_a_reference_takes_the_value_after_all_layers(project):
    text = "logging: {save_interval: '${ref:training.total_steps}', eval_interval: '${ref:training.batch_size}'}"
    project.write(c="_base_: b.yaml\n" + text)
    config = project.load("c.yaml", "training.total_steps=77")
    assert (config.logging.save_interval, config.logging.eval_interval) == (77, 32)


def test_a_reference_to_a_map_is_a_copy_under_what_is_written_over_it(project):
    project.write(
        base="experiment: {extra: {a: {x: 1, y: {z: 2}}, b: '${ref:experiment.extra.a}'}}",
        c="_base_: base.yaml\nexperiment: {extra: {b: {y: {w: 3}, x: 9}}}",
    )
    extra = project.load("c.yaml", "experiment.extra.a.new=5").experiment.extra
    assert extra["b"] == {"x": 9, "y": {"z": 2, "w": 3}, "new": 5}
    assert extra["a"] == {"x": 1, "y": {"z": 2}, "new": 5}
    assert project.chain("experiment.extra.b.x") == [(1, "ref", "base.yaml", 1), (9, "file", "c.yaml", 2)]
    assert project.chain("experiment.extra.b.y.z") == [(2, "ref", "base.yaml", 1)]


def test_references_to_sections_hold_defaults(project):
    config = project.write(c="experiment: {extra: {t: '${ref:scheduler}', g: '${ref:generation.top_p}'}}").load()
    assert config.experiment.extra["t"]["name"] == "cosine"
    assert config.experiment.extra["t"]["warmup_steps"] == 0
    assert config.experiment.extra["g"] == 1.0


LAB = """
from ostinato.core.registry import DATASETS
class Rows:
    def __len__(self): return 1
    def __getitem__(self, index): return {}
@DATASETS.register("rows_a")
class A(Rows):
    def __init__(self, seed, *, path: str = "p", a: int = 1): ...
@DATASETS.register("rows_b")
class B(Rows):
    def __init__(self, seed, *, path: str = "q"): ...
"""


def test_a_component_copied_and_switched(project):
    project.write(
        lab_ref_py=LAB, c="plugins: [lab_ref]\ndata:\n  train: {name: rows_a, a: 5}\n  validation: ${ref:data.train}\n"
    )
    assert project.load().data.validation.options == {"path": "p", "a": 5}
    assert project.load("c.yaml", "data.validation.path=x").data.validation.options == {"path": "x", "a": 5}
    assert project.load("c.yaml", "data.validation.name=rows_b").data.validation.options == {"path": "q"}


def test_text_is_copied_as_written(project):
    config = project.write(c="experiment:\n  notes: 0777\n  name: ${ref:experiment.notes}\n").load()
    assert config.experiment.name == "0777"


def test_references_in_lists(project):
    config = project.write(c="experiment: {notes: x, tags: ['${ref:experiment.notes}', b]}").load()
    assert config.experiment.tags == ("x", "b")
    assert project.load("c.yaml", "experiment.tags+=['${ref:experiment.notes}']").experiment.tags == ("x", "b", "x")


def test_cycles_and_missing_targets(fails):
    text = "experiment:\n  notes: ${ref:experiment.name}\n  name: ${ref:experiment.notes}\n"
    assert any("cycle of references: experiment.notes -> experiment.name -> experiment.notes" in m for m in fails(text))
    assert len(fails(text)) == 1
    assert fails("experiment:\n  notes: ${ref:training.total_stepz}\n") == [
        "c.yaml:2:10  experiment.notes: nothing stands at training.total_stepz. Did you mean training.total_steps?"
    ]
    assert len(fails("experiment: {extra: {a: '${ref:experiment.extra}'}}")) == 1


def test_a_failing_target_is_reported_once(fails):
    assert len(fails("experiment:\n  notes: ${UNSET}\n  name: ${ref:experiment.notes}\n")) == 1


def test_a_component_name_is_no_reference(fails):
    assert "cannot be a reference" in fails("experiment: {notes: sgd}\noptimizer: {name: '${ref:experiment.notes}'}")[0]
    assert len(fails("experiment: {notes: sgd}\noptimizer: {name: '${ref:experiment.notes}'}")) == 1
