"""The result: deeply frozen, reloads to itself, hashes that depend on values alone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from hashlib import sha256

import pytest

RICH = """
experiment: {name: x, seed: 3, tags: [on, "1"], extra: {a: {b: [1, {c: 2.5}], "k+": null}, "true": 1e-7}}
training: {learning_rate: 1e-5, total_steps: 5}
optimizer: {betas: [0.9, 0.98]}
rewards: {}
logging: {profile: [1, 2]}
"""


def test_assigning_raises_anywhere(project):
    config = project.write(c=RICH).load()
    for target in (config, config.training, config.optimizer):
        with pytest.raises(dataclasses.FrozenInstanceError):
            target.name = 1
    for mapping in (
        config.optimizer.options,
        config.experiment.extra,
        config.rewards,
        config.experiment.extra["a"]["b"][1],
    ):
        with pytest.raises(TypeError):
            mapping["x"] = 1
    with pytest.raises(AttributeError):
        config.experiment.tags.append("x")


def test_it_reloads_to_itself(project):
    first = project.write(c="_base_: d.yaml\nexperiment: {notes: '${A}'}", d=RICH).load(environ={"A": "$${z}${y}"})
    project.write(frozen=first.to_yaml())
    again = project.load("frozen.yaml")
    assert again.to_yaml() == first.to_yaml()
    assert again == first
    assert (again.full_hash, again.science_hash) == (first.full_hash, first.science_hash)
    assert first.to_yaml().startswith(f"_hash_: {first.full_hash}\nexperiment:\n  name: x\n")


def test_the_hash_is_of_canonical_json(project):
    config = project.write(c=RICH).load()
    text = json.dumps(config.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert config.full_hash == sha256(text.encode()).hexdigest()


def test_negative_zero_counts_as_zero(project):
    assert (
        project.load("b.yaml", "rewards={}", "experiment.extra.a=-0.0").full_hash
        == project.load("b.yaml", "experiment.extra.a=0.0").full_hash
    )


def test_hashes_depend_on_values_only(project):
    one = project.write(c="training: {total_steps: 5, learning_rate: 1e-5}\nexperiment: {seed: 1}").load()
    two = project.write(
        d="# x\nexperiment: {seed: 1}\n", c="_base_: d.yaml\ntraining:\n  learning_rate: 0.00001\n  total_steps: 5.0"
    ).load()
    assert (one.full_hash, one.science_hash) == (two.full_hash, two.science_hash)


@pytest.mark.parametrize(
    "text",
    [
        "experiment.name=y",
        "training.micro_batch_size=2",
        "logging.keep_last=9",
        "distributed.strategy=ddp",
        "data.workers=7",
    ],
)
def test_what_is_not_science_changes_the_full_hash_only(project, text):
    base, other = project.load("b.yaml"), project.load("b.yaml", text)
    assert base.full_hash != other.full_hash
    assert base.science_hash == other.science_hash


@pytest.mark.parametrize("text", ["experiment.seed=1", "training.batch_size=8", "optimizer.weight_decay=0.5"])
def test_what_is_science_changes_both(project, text):
    base, other = project.load("b.yaml"), project.load("b.yaml", text)
    assert base.science_hash != other.science_hash
    assert (base.group_hash == other.group_hash) == (text == "experiment.seed=1")


def test_a_changed_frozen_file_is_refused_everywhere(project):
    text = project.load("b.yaml").to_yaml()
    project.write(f=text.replace("total_steps: 10", "total_steps: 11"), c="_base_: f.yaml\ntraining: {total_steps: 5}")
    for name, overrides in [("f.yaml", ()), ("f.yaml", ("training.total_steps=10",)), ("c.yaml", ())]:
        assert project.mistakes(name, *overrides) == [
            "f.yaml:1:9  _hash_: this file was changed after it was frozen. "
            "To use it as an ordinary config, delete its `_hash_` line."
        ]
    project.write(f="\n".join(text.replace("total_steps: 10", "total_steps: 11").split("\n")[1:]))
    assert project.load("f.yaml").training.total_steps == 11


def test_a_frozen_file_has_no_bases_operators_or_variables(project):
    text = project.load("b.yaml").to_yaml()
    for changed in ("_base_: b.yaml\n" + text, text.replace("tags: [", "tags!: ["), text.replace('""', '"${A:}"', 1)):
        assert changed != text
        project.write(f=changed)
        assert "changed after it was frozen" in project.mistakes("f.yaml")[0]


def test_a_frozen_file_is_a_config_like_any_other(project):
    project.write(f=project.load("b.yaml").to_yaml(), c="_base_: f.yaml\noptimizer: {name: sgd}")
    assert project.load().optimizer.name == "sgd"
    assert project.load("f.yaml", "training.total_steps=3").training.total_steps == 3


def test_the_hash_is_the_same_in_another_process(project):
    code = "from ostinato.core.config import load_config; print(load_config('b.yaml').full_hash)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == project.load("b.yaml").full_hash


def test_yaml_readers_of_the_old_school_see_the_same_values(project):
    import yaml

    config = project.write(c="experiment: {tags: [on, no, 1:30, 2026-11-23, '0777', y, 1_000], notes: '~'}").load()
    seen = yaml.safe_load(config.to_yaml())
    assert seen["experiment"]["tags"] == ["on", "no", "1:30", "2026-11-23", "0777", "y", "1_000"]
    assert seen["experiment"]["notes"] == "~"
