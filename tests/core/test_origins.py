"""Where values come from."""

from __future__ import annotations

import pytest

from ostinato.core.catalog import PACKAGE
from ostinato.core.origins import UnknownKey


def test_a_chain_is_in_composition_order_with_the_winner_last(project, monkeypatch):
    monkeypatch.setenv("N", "4")
    project.write(x="_base_: b.yaml\ntraining:\n  total_steps: ${N}\n", c="_base_: x.yaml\ntraining: {total_steps: 5}")
    steps = project.load("c.yaml", "training.total_steps=6", environ={"N": "4"}).loaded.origins.explain(
        "training.total_steps"
    )
    assert [(s["value"], s["kind"], s["file"], s["line"]) for s in steps[1:]] == [
        (10, "file", "b.yaml", 1),
        (4, "env", "x.yaml", 3),
        (5, "file", "c.yaml", 2),
        (6, "cli", None, 1),
    ]
    assert (steps[0]["value"], steps[0]["kind"], steps[0]["file"]) == (1000, "default", "ostinato/core/schema.py")


def test_a_default_is_at_its_place_in_the_signature(project):
    (step,) = project.load("b.yaml").loaded.origins.explain("optimizer.weight_decay")
    lines = (PACKAGE / "training/optimizers.py").read_text().split("\n")
    assert step["file"] == "ostinato/training/optimizers.py"
    assert "weight_decay: float" in lines[step["line"] - 1]
    (step,) = project.load("b.yaml").loaded.origins.explain("training.batch_size")
    lines = (PACKAGE / "core/schema.py").read_text().split("\n")
    assert "batch_size: int" in lines[step["line"] - 1]


def test_a_section_gives_its_leaves(project):
    leaves = (
        project.write(c="_base_: b.yaml\nexperiment: {extra: {a: {b: 1}}}").load().loaded.origins.explain("experiment")
    )
    assert list(leaves) == [f"experiment.{k}" for k in ("name", "seed", "output_root", "tags", "notes", "extra.a.b")]
    assert leaves["experiment.extra.a.b"][-1]["line"] == 2


FINE = """from ostinato.core.registry import REWARDS
@REWARDS.register("fine")
def fine(*, a: float = 1): ...
"""
EVERYTHING = """_base_: b.yaml
plugins: [lab_all]
rewards: {fine: {weight: 2}, x: {name: fine}}
optimizer: {betas: [0, 1]}
logging: {trackers: {}}
experiment: {tags+: [z], extra: {t: "${ref:experiment.tags}"}}
"""


def test_every_leaf_of_the_result_has_a_chain_that_ends_in_its_value(project):
    project.write(lab_all_py=FINE, c=EVERYTHING)
    config = project.load()
    plain = config.to_dict()
    origins = config.origins
    for key, chain in origins.items():
        value = plain
        for part in key.split("."):
            value = value[part]
        assert chain and chain[-1]["value"] == value, key

    def leaves(value, path=()):
        if isinstance(value, dict) and value:
            return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
        return [".".join(path)]

    assert set(leaves(plain)) == set(origins)


def test_elements(project):
    project.write(c="_base_: b.yaml\nexperiment:\n  tags+:\n    - c\n")
    assert project.chain("experiment.tags[0]") == [("a", "file", "b.yaml", 2)]
    assert project.chain("experiment.tags[2]") == [("c", "append", "c.yaml", 4)]
    assert project.chain("experiment.tags[3]", "c.yaml", "experiment.tags+=[d]") == [("d", "cli", None, 1)]
    assert project.chain("optimizer.betas[1]")[0][1:3] == ("default", "ostinato/training/optimizers.py")
    with pytest.raises(UnknownKey):
        project.chain("experiment.tags[3]")


def test_unknown_keys(project):
    for key in ("training.total_stepz", "nothing", "training.total_steps.x", "optimizer.name.x"):
        with pytest.raises(UnknownKey):
            project.load("b.yaml").loaded.origins.explain(key)


def test_shipped_configs_are_shown_by_their_short_name(project):
    project.write(c="_base_: ostinato:base/training.yaml")
    chain = project.chain("training.total_steps")
    assert chain[-1][1:3] == ("file", "ostinato:base/training.yaml")
