"""Bases, dominance, diamonds, disagreements, operators."""

from __future__ import annotations

from random import Random

import pytest


def test_a_base_is_relative_to_the_file_that_declares_it(project, monkeypatch):
    project.write(sub__b="training: {total_steps: 7}", sub__c="_base_: b.yaml")
    for folder in (project.folder, project.folder / "sub", project.folder.parent):
        monkeypatch.chdir(folder)
        assert project.load(str(project.folder / "sub/c.yaml")).training.total_steps == 7


def test_a_missing_base_names_the_path_tried_and_near_names(project):
    project.write(sub__base="", sub__c="_base_: bse.yaml")
    assert project.mistakes("sub/c.yaml") == [
        "sub/c.yaml:1:9  _base_: no such file: sub/bse.yaml. Did you mean sub/base.yaml?"
    ]


def test_several_bases_give_both(project):
    project.write(x="training: {learning_rate: 1}", y="training: {batch_size: 8}", c="_base_: [x.yaml, y.yaml]")
    training = project.load().training
    assert (training.learning_rate, training.batch_size) == (1.0, 8)


def test_bases_that_differ_disagree_unless_the_file_decides(project):
    project.write(x="training: {batch_size: 4}", y="\ntraining:\n  batch_size: 8", c="_base_: [x.yaml, y.yaml]")
    text = "c.yaml:1:9  training.batch_size: bases disagree: x.yaml:1 says 4, y.yaml:3 says 8. "
    assert project.mistakes() == [text + "Set it in this file or drop one base."]
    assert project.load("c.yaml", "training.batch_size=2").training.batch_size == 2
    assert project.write(d="_base_: c.yaml\ntraining: {batch_size: 3}").load("d.yaml").training.batch_size == 3


@pytest.mark.parametrize(("one", "other"), [("1e-5", "0.00001"), ("2", "2.0"), ("1", "1")])
def test_equal_values_agree(project, one, other):
    project.write(x=f"training: {{learning_rate: {one}}}", y=f"training: {{learning_rate: {other}}}")
    assert project.write(c="_base_: [x.yaml, y.yaml]").load().training.learning_rate == float(one)


def test_no_bool_equals_a_number(project):
    project.write(x="experiment: {extra: {a: 1}}", y="experiment: {extra: {a: true}}", c="_base_: [x.yaml, y.yaml]")
    assert "x.yaml:1 says 1, y.yaml:1 says true" in project.mistakes()[0]


@pytest.mark.parametrize("bases", ["[x.yaml, y.yaml]", "[y.yaml, x.yaml]"])
def test_in_a_diamond_the_nearer_dominates_whatever_the_order(project, bases):
    project.write(w="training: {batch_size: 4}", x="_base_: w.yaml\ntraining: {batch_size: 8}", y="_base_: w.yaml")
    assert project.write(c=f"_base_: {bases}").load().training.batch_size == 8


def test_a_drop_is_a_claim_too(project):
    project.write(w="training: {batch_size: 4}", x="_base_: w.yaml\ntraining: {~batch_size: }", y="_base_: w.yaml")
    assert project.write(c="_base_: [x.yaml, y.yaml]").load().training.batch_size == 32
    project.write(y="_base_: w.yaml\ntraining: {batch_size: 5}")
    assert "x.yaml:2 drops it, y.yaml:2 says 5" in project.mistakes()[0]


def test_a_disagreement_is_reported_where_the_bases_join(project):
    project.write(x="training: {batch_size: 4}", y="training: {batch_size: 8}", j="_base_: [x.yaml, y.yaml]")
    project.write(c="_base_: j.yaml")
    assert [m.split("  ")[0] for m in project.mistakes()] == ["j.yaml:1:9"]


def test_a_cycle_shows_the_chain(project):
    project.write(a="_base_: b.yaml", b="_base_: a.yaml")
    assert project.mistakes("a.yaml") == ["b.yaml:1:9  _base_: cycle: a.yaml -> b.yaml -> a.yaml. Remove one of them."]


def test_a_file_reached_twice_by_other_paths_counts_once(project):
    (project.folder / "link.yaml").symlink_to("b.yaml")
    project.write(x="_base_: b.yaml\nexperiment: {tags+: [x]}", c="_base_: [link.yaml, x.yaml]")
    assert project.load().experiment.tags == ("a", "b", "x")


def test_depth_has_no_limit(project):
    project.write(f0="training: {total_steps: 5}", **{f"f{i}": f"_base_: f{i - 1}.yaml" for i in range(1, 1500)})
    assert project.load("f1499.yaml").training.total_steps == 5


def test_a_scalar_over_a_map_and_a_map_over_a_scalar(project):
    project.write(base="\noptimizer:\n  name: adamw", c="_base_: base.yaml\noptimizer: sgd")
    assert project.mistakes() == [
        "c.yaml:2:1  optimizer: a scalar here, but base.yaml:2 gives a map. "
        "Write optimizer: {name: sgd}, or optimizer!: to replace it."
    ]
    project.write(base="training: {total_steps: 5}", c="_base_: base.yaml\ntraining: {total_steps: {a: 1}}")
    assert project.mistakes() == [
        "c.yaml:2:12  training.total_steps: a map here, but base.yaml:1 gives a scalar. "
        "Write total_steps!: to replace it."
    ]


LAB = """
from ostinato.core.registry import MODELS, OPTIMIZERS
@MODELS.register("toy")
class Toy:
    def __init__(self, inputs, *, width: int = 4): ...
@MODELS.register("lora_toy")
class Lora:
    def __init__(self, inputs, *, rank: int = 8): ...
"""


def test_null_over_a_map_where_the_schema_allows_it(project):
    project.write(lab_toy_py=LAB, base="plugins: [lab_toy]\nmodel: {name: toy, adapter: {name: lora_toy, rank: 2}}")
    assert project.write(c="_base_: base.yaml\nmodel: {adapter: null}").load().model.adapter is None
    project.write(d="_base_: c.yaml\nmodel: {adapter: {name: lora_toy}}")
    assert project.load("d.yaml").model.adapter.options == {"rank": 8}
    assert project.chain("model.adapter.rank", "d.yaml") == [
        (8, "default", "lab_toy.py", 8),
        (2, "file", "base.yaml", 2),
        (None, "dropped", "c.yaml", 2),
    ]
    project.write(base="training: {total_steps: 5}", c="_base_: base.yaml\ntraining: null")
    assert "a null here, but base.yaml:1 gives a map" in project.mistakes()[0]


def test_append_through_two_levels_and_by_override(project):
    project.write(c="_base_: b.yaml\nexperiment: {tags+: [c]}", d="_base_: c.yaml\nexperiment: {tags+: [d]}")
    assert project.load("d.yaml", "experiment.tags+=[e]").experiment.tags == ("a", "b", "c", "d", "e")
    assert project.write(e="_base_: d.yaml\nexperiment: {tags: []}").load("e.yaml").experiment.tags == ()
    assert project.write(f="experiment: {tags+: [x]}").load("f.yaml").experiment.tags == ("x",)


def test_appends_of_siblings_are_kept_once_each(project):
    project.write(x="_base_: b.yaml\nexperiment: {tags+: [x]}", y="_base_: b.yaml\nexperiment: {tags+: [y]}")
    assert project.write(c="_base_: [x.yaml, y.yaml]").load().experiment.tags == ("a", "b", "x", "y")


def test_an_assignment_discards_the_appends_it_dominates_only(project):
    project.write(x="_base_: b.yaml\nexperiment: {tags+: [x]}", y="_base_: b.yaml\nexperiment: {tags: [new]}")
    assert project.write(c="_base_: [x.yaml, y.yaml]").load().experiment.tags == ("new", "x")
    assert project.chain("experiment.tags") == [
        ([], "default", "ostinato/core/schema.py", project.chain("experiment.tags")[0][3]),
        (["a", "b"], "file", "b.yaml", 2),
        (["new"], "file", "y.yaml", 2),
        (["new", "x"], "append", "x.yaml", 2),
    ]


def test_append_needs_lists(fails):
    assert "+ appends a list, got str 'c'" in fails("_base_: b.yaml\nexperiment: {tags+: c}")[0]
    assert "+ appends to lists only" in fails("_base_: b.yaml\nexperiment: {notes+: [c]}")[0]
    assert "nothing to append to" in fails("experiment: {extra: {a+: [c]}}")[0]


@pytest.mark.parametrize("text", ["optimizer!: {name: sgd}", "optimizer: {_delete_: true, name: sgd}"])
def test_replace_whole(project, text):
    project.write(base="optimizer: {name: sgd, momentum: 0.5}", c=f"_base_: base.yaml\n{text}")
    config = project.load()
    assert config.optimizer.options["momentum"] != 0.5
    assert "!" not in config.to_yaml() and "_delete_" not in config.to_yaml()
    assert project.chain("optimizer.momentum")[-1][1:] == ("dropped", "c.yaml", 2)


def test_delete(project, fails):
    project.write(c="_base_: b.yaml\ntraining:\n  ~learning_rate:\n")
    assert project.load().training.learning_rate == 3e-4
    assert project.chain("training.learning_rate")[1:] == [
        (3e-4, "file", "b.yaml", 1),
        (None, "dropped", "c.yaml", 3),
    ]
    assert fails("training:\n  ~learning_rate:\n") == [
        "c.yaml:2:3  training.learning_rate: nothing to delete: no base sets it."
    ]
    assert "takes no value" in fails("_base_: b.yaml\ntraining: {~learning_rate: 5}")[0]


def test_delete_by_override(project):
    assert project.load("b.yaml", "~training.total_steps").training.total_steps == 1000
    assert "nothing to delete: no file sets it" in project.mistakes("b.yaml", "~training.batch_size")[0]
    assert "takes no value" in project.mistakes("b.yaml", "~training.total_steps=5")[0]


def test_a_quoted_key_is_literal(project):
    config = project.write(c='experiment: {extra: {"c++": 1, "~x": 2, "_delete_": true, "a.b": {"<<": 3}}}').load()
    assert config.experiment.extra == {"c++": 1, "~x": 2, "_delete_": True, "a.b": {"<<": 3}}
    assert project.write(f=config.to_yaml()).load("f.yaml").full_hash == config.full_hash
    assert project.load("c.yaml", 'experiment.extra."a.b".x=4').experiment.extra["a.b"] == {"<<": 3, "x": 4}


def test_another_name_drops_the_options_of_the_base(project):
    project.write(base="optimizer: {name: adamw, betas: [0.9, 0.98]}", c="_base_: base.yaml\noptimizer:\n  name: sgd\n")
    assert "betas" not in project.load().optimizer.options
    assert project.chain("optimizer.betas")[-1] == (None, "dropped", "c.yaml", 3)
    project.write(c="_base_: base.yaml\noptimizer: {name: sgd, betas: [0.9, 0.98]}")
    assert "not an option of sgd" in project.mistakes()[0] and "it belongs to adamw" in project.mistakes()[0]


def test_the_same_name_keeps_them_and_a_base_without_a_name_loses_nothing(project):
    project.write(base="optimizer: {name: adamw, weight_decay: 0.5}", c="_base_: base.yaml\noptimizer: {name: adamw}")
    assert project.load().optimizer.options["weight_decay"] == 0.5
    project.write(base="optimizer: {weight_decay: 0.5}", c="_base_: base.yaml\noptimizer: {name: sgd}")
    assert project.load().optimizer.options["weight_decay"] == 0.5


def test_common_fields_survive_another_name(project):
    project.write(
        base="scheduler: {name: cosine, min_ratio: 0.3, warmup_steps: 7}",
        c="_base_: base.yaml\nscheduler: {name: constant}",
    )
    scheduler = project.load().scheduler
    assert (scheduler.warmup_steps, dict(scheduler.options)) == (7, {})


def test_another_name_drops_only_what_that_base_says(project):
    project.write(x="optimizer: {name: adamw, weight_decay: 0.5}", y="optimizer: {name: sgd, momentum: 0.3}")
    project.write(c="_base_: [x.yaml, y.yaml]\noptimizer: {name: sgd}")
    options = project.load().optimizer.options
    assert options["momentum"] == 0.3 and options["weight_decay"] != 0.5


def test_overrides_switch_in_any_order(project):
    project.write(c="optimizer: {name: adamw, betas: [0.9, 0.98]}")
    one = project.load("c.yaml", "optimizer.name=sgd", "optimizer.momentum=0.9")
    other = project.load("c.yaml", "optimizer.momentum=0.9", "optimizer.name=sgd")
    assert one.to_yaml() == other.to_yaml()
    assert one.optimizer.options["momentum"] == 0.9
    assert project.load("b.yaml", "training.total_steps=1", "training.total_steps=2").training.total_steps == 2
    overrides = ("training.total_steps=1", "training.total_steps=2")
    assert project.chain("training.total_steps", "b.yaml", *overrides)[1:] == [
        (10, "file", "b.yaml", 1),
        (1, "cli", None, 1),
        (2, "cli", None, 2),
    ]


def test_append_fills_a_tuple_or_is_refused(project):
    project.write(c="logging: {profile+: [1, 2]}\noptimizer: {betas+: [3]}\nrewards+: [x]\n")
    assert [m.split("  ")[1] for m in project.mistakes()] == [
        "logging.profile: + appends to lists only, and the value is none. Write it without +.",
        "optimizer.betas: expected tuple[float, float], got a list of 3. Write 2 elements.",
        "rewards: + appends to lists only, and this is a map. Write it without +.",
    ]


def test_a_map_all_of_whose_keys_are_deleted_is_empty(project):
    project.write(b="experiment: {extra: {a: {x: 1}}}", c="_base_: b.yaml\nexperiment: {extra: {a: {~x: }}}")
    assert project.load().experiment.extra == {"a": {}}
    assert project.chain("experiment.extra.a.x") == [(1, "file", "b.yaml", 1), (None, "dropped", "c.yaml", 2)]


def dominance(bases: list[list[int]], says: list[dict[str, int | None]]) -> tuple[dict[str, int], set[str]]:
    """The definition itself, as an oracle: what the last file's keys are, and which its bases disagree on."""
    below = [set(b) for b in bases]
    for i, own in enumerate(bases):
        below[i] |= {layer for base in own for layer in below[base]}
    values: dict[str, int] = {}
    disagree = set()
    for key in "abc":
        claims = [i for i in sorted(below[-1] | {len(bases) - 1}) if key in says[i]]
        free = {says[i][key] for i in claims if not any(i in below[j] for j in claims)}
        if len(free) > 1:
            disagree.add(key)
        elif free - {None}:
            values[key] = free.pop()  # type: ignore[assignment]
    return values, disagree


@pytest.mark.parametrize("seed", range(150))
def test_merging_is_dominance_on_random_hierarchies(project, seed):
    random = Random(seed)
    count = random.randint(2, 6)
    bases = [random.sample(range(i), min(i, random.randint(i == count - 1, 3))) for i in range(count)]
    says: list[dict[str, int | None]] = []
    for i in range(count):
        own: dict[str, int | None] = {key: random.choice([1, 2]) for key in "abc" if random.random() < 0.4}
        inherited, _ = dominance([*bases[:i], bases[i]], [*says, {}])
        own |= dict.fromkeys([key for key in inherited if random.random() < 0.2])  # None: the file deletes it
        says.append(own)
        lines = [f"    ~{key}:" if value is None else f"    {key}: {value}" for key, value in own.items()]
        names = ", ".join(f"f{base}.yaml" for base in bases[i])
        project.write(**{f"f{i}": f"_base_: [{names}]\nexperiment:\n  extra:\n    z: 0\n" + "\n".join(lines)})
    values, disagree = dominance(bases, says)
    if disagree:
        assert {
            mistake.split("  ")[1].split(":")[0][-1] for mistake in project.mistakes(f"f{count - 1}.yaml")
        } == disagree
    else:
        assert project.load(f"f{count - 1}.yaml").experiment.extra == {**values, "z": 0}
