"""What a file may be: duplicates, aliases, merge keys, tags, syntax, encodings."""

from __future__ import annotations

import pytest


def test_empty_files_are_empty_configs(project):
    assert project.write(e="", c="# nothing\n").load("e.yaml").full_hash == project.load().full_hash


@pytest.mark.parametrize("text", ["- a", "a", "[a]"])
def test_a_config_is_one_map(fails, text):
    assert fails(text) == ["c.yaml:1:1  a config is one map of sections. Write `section: {...}`."]


def test_no_second_document(fails):
    assert "c.yaml:3:1  not YAML: expected a single document" in fails("a: 1\n---\n---\nb: 2")[0].replace("2:1", "3:1")


def test_bom_and_crlf_change_nothing(project):
    plain = "experiment:\n  notes: |\n    a\n    b\ntraining:\n  total_steps: x\n"
    project.write(a=plain)
    (project.folder / "c.yaml").write_bytes(b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode())
    assert project.mistakes("c.yaml") == [m.replace("a.yaml", "c.yaml") for m in project.mistakes("a.yaml")]
    assert project.mistakes("c.yaml")[0].startswith("c.yaml:6:16  ")


def test_duplicates_name_both_lines_at_any_depth(fails):
    assert fails("training:\n  batch_size: 1\n  batch_size: 1\n") == [
        "c.yaml:3:3  training.batch_size: written twice in this map; first at line 2. Keep one."
    ]
    assert len(fails("experiment: {tags: [], tags+: [a], extra: {a: {b: 1, b: 2}}}")) == 2
    assert "first at line 1" in fails("training: {}\ntraining: {}")[0]


ALIASES = """experiment:
  extra:
    one: &one {x: 1, y: 1}
    two: &two {y: 2, z: 2}
    three:
      <<: [*one, *two]
      z: 3
    four: *one
"""


def test_aliases_and_merge_keys(project):
    project.write(c=ALIASES)
    extra = project.load().experiment.extra
    assert extra["three"] == {"x": 1, "y": 1, "z": 3}
    assert extra["four"] == extra["one"]
    assert project.chain("experiment.extra.three.y") == [(1, "file", "c.yaml", 3)]


def test_an_alias_that_contains_itself(fails):
    assert "contains itself" in fails("experiment: {extra: {a: &a [1, *a]}}")[0]


def test_a_file_that_expands_without_end(fails):
    lines = ["experiment: {extra: {", "a0: &a0 [x, x, x, x, x, x, x, x, x, x],"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]," for i in range(1, 8)]
    assert "more than 100,000 nodes" in fails("\n".join([*lines, "}}"]))[0]


@pytest.mark.parametrize("tag", ["!x", "!!int", "!!python/object:os.system"])
def test_tags_are_refused(fails, tag):
    assert fails(f"experiment:\n  seed: {tag} 3\n")[0].startswith("c.yaml:2:9  the tag !")


def test_an_exclamation_mark_is_no_tag(project):
    assert project.write(c='experiment: {notes: "hi! there", tags: [a!b]}').load().experiment.tags == ("a!b",)


def test_a_syntax_error_hides_no_other_file(project):
    project.write(x="training: {a", y="training: {total_stepz: 5}", c="_base_: [x.yaml, y.yaml]\nexperiment: {~tags: }")
    mistakes = project.mistakes()
    assert [m.split("  ")[0] for m in mistakes] == ["x.yaml:1:11", "y.yaml:1:12"]  # and none about ~tags


def test_a_variable_in_a_flow_value_must_be_quoted(fails):
    assert 'must be quoted: "${NAME}"' in fails("experiment: {tags: [${A}]}")[0]


def test_not_utf8_and_control_characters(project):
    (project.folder / "c.yaml").write_bytes(b"experiment: {}\n# \xff\n")
    assert project.mistakes() == ["c.yaml:2:1  is no UTF-8 text. Save it as UTF-8."]
    (project.folder / "c.yaml").write_bytes(b"experiment: {}\nx: \x07\n")
    assert project.mistakes()[0].startswith("c.yaml:2:")


def test_keys_must_be_scalars(fails):
    assert "a key must be a scalar" in fails("experiment: {extra: {[a]: 1}}")[0]


def test_base_and_hash_stand_at_the_top_only(fails):
    assert "top of a file only" in fails("training: {_base_: b.yaml}")[0]
    assert "top of a file only" in fails("training: {}", "_base_=b.yaml")[0]


def test_the_file_itself_is_missing(project):
    assert project.mistakes("bb.yaml") == ["no such file: bb.yaml. Did you mean b.yaml?"]


def test_a_folder_is_no_file(project):
    assert "cannot read" in project.mistakes(".")[0]


def test_nesting_without_end(fails):
    assert "nested too deeply" in fails("experiment: {extra: " + "{a: " * 200 + "1" + "}" * 201)[0]
