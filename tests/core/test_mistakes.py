"""All mistakes at once, each once, with place and remedy."""

from __future__ import annotations

FIVE = {
    "a": "training:\n  learning_rat: 1\n  total_steps: 10\n",
    "b": "_base_: a.yaml\nexperiment:\n  seed: x\n  tagz: [a]\n",
    "c": "_base_: b.yaml\ntraining: {total_steps: true}\noptimizer: {name: adamv}\n",
}


def test_five_mistakes_in_three_files_are_one_report(project):
    mistakes = project.write(**FIVE).mistakes()
    assert [m.split("\n")[0].split(" Known")[0] for m in mistakes] == [
        "a.yaml:2:3  training.learning_rat: unknown key. Did you mean training.learning_rate?",
        "b.yaml:3:9  experiment.seed: expected int, got str 'x'",
        "b.yaml:4:3  experiment.tagz: unknown key. Did you mean experiment.tags?",
        "c.yaml:2:25  training.total_steps: expected int, got bool true",
        mistakes[4].split(" Known")[0],
    ]
    assert mistakes[4].startswith("c.yaml:3:19  optimizer.name: 'adamv' is not in OPTIMIZERS. Did you mean adamw (")


def test_the_nearest_key_and_where_it_is_set(project):
    project.write(base="\n\ntraining:\n  learning_rate: 3e-4\n", c="_base_: base.yaml\ntraining: {learning_rat: 1}")
    assert project.mistakes() == [
        "c.yaml:2:12  training.learning_rat: unknown key. Did you mean training.learning_rate?\n"
        "  base.yaml:4 sets training.learning_rate to 3e-4"
    ]


def test_a_misspelt_section_is_one_mistake(fails):
    assert fails("trainng:\n  total_steps: 5\n  lr: 3\n") == [
        "c.yaml:1:1  trainng: unknown key. Did you mean training?",
    ]


def test_no_near_key_lists_the_valid_ones(fails):
    assert fails("scheduler: {zzz: 1}")[0].endswith("Known in scheduler: name, warmup_steps, min_ratio.")


MAYBE = """_base_: nowhere.yaml
experiment: {~tags: , extra: {a+: [1], b: "${ref:experiment.extra.z}"}}
training: {micro_batch_size: 64}
"""


def test_a_missing_base_causes_no_second_mistake(project):
    project.write(c=MAYBE)
    assert len(project.mistakes()) == 1


def test_a_mistake_in_a_file_reached_twice_is_one(project):
    project.write(w="training: {lr: 1}", x="_base_: w.yaml", y="_base_: w.yaml", c="_base_: [x.yaml, y.yaml]")
    assert len(project.mistakes()) == 1


def test_only_what_wins_is_typed(project):
    project.write(base="training: {total_steps: x}", c="_base_: base.yaml\ntraining: {total_steps: 5}")
    assert project.load().training.total_steps == 5


def test_an_unknown_key_is_told_wherever_it_is_written(project):
    project.write(base="training: {lr: 1}", c="_base_: base.yaml\ntraining: {lr: 2}")
    assert [m.split("  ")[0] for m in project.mistakes()] == ["base.yaml:1:12", "c.yaml:2:12"]


def test_files_elsewhere_are_shown_by_their_real_path(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("else")
    (folder / "x.yaml").write_text("training: {lr: 1}")
    assert project.mistakes(str(folder / "x.yaml"))[0].startswith(f"{folder.resolve()}/x.yaml:1:12  ")
