"""Registries: options from signatures, plugins, mistakes about names, what `check` imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ostinato.core.config import ConfigError, load_config
from ostinato.core.registry import DATASETS, OPTIMIZERS, RegistrationError, Registry

ZIPPY = '''"""A plugin."""
from typing import Literal
from ostinato.core.registry import OPTIMIZERS


@OPTIMIZERS.register("zippy")
class Zippy:
    """Goes fast."""

    def __init__(self, groups, learning_rate, *, speed: int, mode: Literal["a", "b"] = "a",
                 betas: tuple[float, float] = (0, 0.5), names: list[str] | None = None):
        if speed < 0:
            raise ValueError("speed must not be negative")
        self.speed, self.names, self.betas = speed, names, betas
'''


@pytest.fixture
def plugin(project, request):
    """Writes a plugin under a name of its own, so that no test meets another's module."""
    name = "lab_" + re.sub(r"[\W_]+", "_", request.node.name).strip("_")

    def write(text: str = ZIPPY) -> str:
        project.write(**{f"{name}_py": text})
        return name

    yield write
    for registry in (OPTIMIZERS, DATASETS):
        for key in [key for key, value in registry.objects.items() if value.__module__.startswith("lab_")]:
            del registry.objects[key], registry.places[key]


def test_options_come_from_the_signature(project, plugin):
    lab = plugin()
    config = project.write(c=f"plugins: [{lab}]\noptimizer: {{name: zippy, speed: 3, names: [x]}}").load()
    assert dict(config.optimizer.options) == {"speed": 3, "mode": "a", "betas": (0.0, 0.5), "names": ("x",)}
    assert lab not in sys.modules
    built = OPTIMIZERS.build(config.optimizer, [], 0.1)
    assert (built.speed, built.names, built.betas) == (3, ["x"], (0.0, 0.5))
    assert OPTIMIZERS.origin("zippy") == f"{lab}.py:6"


def test_a_value_error_of_the_constructor_is_a_mistake_at_the_node(project, plugin):
    config = project.write(c=f"plugins: [{plugin()}]\noptimizer: {{name: zippy, speed: -3}}").load()
    with pytest.raises(ConfigError) as caught:
        OPTIMIZERS.build(config.optimizer, [], 0.1)
    assert str(caught.value.mistakes[0]) == "c.yaml:2:1  optimizer: zippy: speed must not be negative"


def test_a_required_option_is_null_until_a_run_needs_it(project, plugin):
    project.write(c=f"plugins: [{plugin()}]\noptimizer: {{name: zippy}}")
    assert project.load().optimizer.options["speed"] is None
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", complete=True)
    keys = {mistake.key: str(mistake) for mistake in caught.value.mistakes}
    assert set(keys) == {"algorithm.name", "model.name", "optimizer.speed"}
    assert keys["optimizer.speed"].startswith("c.yaml:2:1  optimizer.speed: required and not set: zippy")
    project.write(f=project.load().to_yaml())
    assert project.load("f.yaml").optimizer.options["speed"] is None


def test_unknown_names(fails):
    (mistake,) = fails("optimizer:\n  name: adamv\n  betas: [1, 2]\n")
    assert mistake.startswith("c.yaml:2:9  optimizer.name: 'adamv' is not in OPTIMIZERS. Did you mean adamw (ostinato/")
    assert "Known: adamw," in mistake
    (mistake,) = fails("algorithm: {name: sfft}\nsfft: {x: 1}\n")
    assert "'sfft' is not in ALGORITHMS. Did you mean sft" in mistake


def test_options_of_others(fails):
    (mistake,) = fails("optimizer: {name: adamw, nesterov: true}")
    assert (
        "not an option of adamw (ostinato/training/optimizers.py:" in mistake
        and "; it belongs to muon, sgd." in mistake
    )
    (mistake,) = fails("optimizer: {name: adamw, bettas: [1, 2]}")
    assert "Did you mean optimizer.betas?" in mistake


def test_options_of_the_algorithm_stand_in_its_section(project, fails):
    (mistake,) = fails("algorithm: {name: sft, clip_ratio: 3}")
    assert mistake == (
        "c.yaml:1:24  algorithm.clip_ratio: the options of sft are in the section sft: write sft: {clip_ratio: ...}."
    )


def test_known_keys_in_the_wrong_section(fails):
    (mistake,) = fails("model: {name: transformer, total_steps: 4}")
    assert mistake == "c.yaml:1:28  model.total_steps: unknown key here; it exists at training.total_steps."


def test_a_name_registered_twice_is_found_without_an_import(project, plugin):
    lab = plugin(ZIPPY.replace('"zippy"', '"adamw"'))
    (mistake,) = project.write(c=f"plugins: [{lab}]\noptimizer: {{name: adamw}}").mistakes()
    assert "'adamw' is registered twice in OPTIMIZERS: ostinato/training/optimizers.py:" in mistake
    assert f"and {lab}.py:6. Rename one." in mistake


def test_a_plugin_that_cannot_be_imported_does_not_hinder_show(project, plugin):
    lab = plugin("import no_such_thing\n" + ZIPPY)
    project.write(
        c=f"plugins: [{lab}]\noptimizer: {{name: zippy, speed: 1}}\nalgorithm: {{name: sft}}\nmodel: {{init_from: x}}"
    )
    assert project.load().optimizer.options["speed"] == 1
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", complete=True)
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        f"c.yaml:1:11  plugins: {lab} could not be imported: "
        f"ModuleNotFoundError: No module named 'no_such_thing' ({lab}.py:1)"
    ]


def test_a_component_of_a_package_that_cannot_be_imported(project, plugin):
    project.write(lab_package____init___py="", lab_package__deep__zip_py="\nimport no_such_thing\n" + ZIPPY)
    project.write(
        c="plugins: [lab_package]\noptimizer: {name: zippy, speed: 1}\nalgorithm: {name: sft}\nmodel: {init_from: x}"
    )
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", complete=True)
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        "c.yaml:2:19  optimizer.name: 'zippy' of plugin lab_package (lab_package/deep/zip.py:8) could not be imported: "
        "ModuleNotFoundError: No module named 'no_such_thing' (lab_package/deep/zip.py:2)"
    ]


def test_a_plugin_that_does_not_exist(project):
    project.write(c="plugins: [lab_nowhere]\nalgorithm: {name: sft}\nmodel: {init_from: x}")
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", complete=True)
    assert "lab_nowhere could not be found" in str(caught.value.mistakes[0])


def test_both_readings_of_a_signature_must_agree(project, plugin):
    lab = plugin(ZIPPY + "\nZippy.__init__.__kwdefaults__['mode'] = 'b'\n")
    project.write(
        c=f"plugins: [{lab}]\noptimizer: {{name: zippy, speed: 1}}\nalgorithm: {{name: sft}}\nmodel: {{init_from: x}}"
    )
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", complete=True)
    assert "disagree: mode" in str(caught.value.mistakes[0])


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("**rest", "**rest hides the options"),
        ("speed", "the option speed has no annotation"),
        ("speed: set = None", "set is not built from bool int"),
        ("speed: int = len('x')", "the default of speed is not a literal"),
        ("name: int = 3", "called like a field"),
    ],
)
def test_signatures_that_cannot_be_a_schema(project, plugin, signature, message):
    star = "" if signature.startswith("*") else "*, "
    head = 'from ostinato.core.registry import OPTIMIZERS\n@OPTIMIZERS.register("zip")\n'
    text = f"{head}def zippy(groups, {star}{signature}): ...\n"
    lab = plugin(text)
    (mistake,) = project.write(c=f"plugins: [{lab}]\noptimizer: {{name: zip}}").mistakes()
    assert mistake.startswith(f"c.yaml:2:19  optimizer.name: 'zip' ({lab}.py:2) cannot be used: ")
    assert message in mistake


def test_registration_refuses():
    registry = Registry("TESTS", "none", methods=("log",), base="")

    def first(*, a: int = 1): ...

    def second(*, a: int = 1): ...

    def bad(*, a: object): ...

    registry.register("one")(first)
    registry.register("one")(first)  # the same again is fine
    for name, target, message in [
        ("one", second, "has that name"),
        ("One", second, "lower-case"),
        ("two", bad, "not built from"),
        ("three", type("T", (), {}), "the class has no log"),
    ]:
        with pytest.raises(RegistrationError, match=message) as caught:
            registry.register(name)(target)
        assert "test_components.py:" in str(caught.value)
    from ostinato.core.registry import REGISTRIES

    del REGISTRIES["TESTS"]


def test_mixtures_have_labels_weights_and_no_name(project, plugin):
    text = "plugins: [{lab}]\ndata:\n  train:\n    sources:\n      rows: {{weight: 2}}\n      b: {{name: rows}}\n"
    lab = plugin(
        'from ostinato.core.registry import DATASETS\n@DATASETS.register("rows")\ndef rows(seed, *, n: int = 1): ...\n'
    )
    train = project.write(c=text.format(lab=lab)).load().data.train
    assert train.name is None
    assert {label: (s.name, s.weight, dict(s.options)) for label, s in train.sources.items()} == {
        "rows": ("rows", 2.0, {"n": 1}),
        "b": ("rows", 1.0, {"n": 1}),
    }
    (mistake,) = project.mistakes("c.yaml", "data.train.name=rows")
    assert "a mixture stands instead of one source" in mistake


MINE = """from ostinato.core.registry import ALGORITHMS
@ALGORITHMS.register("mine")
class Mine:
    def __init__(self, parts, *, beta: float = 0.1): ...
"""


def test_other_algorithms_sections_are_checked_and_left_out(project):
    project.write(lab_alg_py=MINE)
    project.write(c="plugins: [lab_alg]\nalgorithm: {name: sft}\nmine: {beta: 1}\n")
    assert "mine" not in project.load().to_dict()
    assert project.chain("mine.beta")[-1] == (1.0, "file", "c.yaml", 3)
    config = project.load("c.yaml", "algorithm.name=mine")
    assert dict(config.algorithm.options) == {"beta": 1.0}
    assert list(config.to_dict())[-1] == "mine"
    assert "Did you mean mine.beta?" in project.mistakes("c.yaml", "mine.betta=1")[0]
    assert "expected float" in project.mistakes("c.yaml", "mine.beta=x")[0]


def test_an_algorithm_is_not_called_like_a_section(project):
    project.write(lab_sec_py=MINE.replace('"mine"', '"data"'))
    (mistake,) = project.write(c="plugins: [lab_sec]\nalgorithm: {name: data}").mistakes()
    assert "data is a section of every config" in mistake


def test_a_node_without_a_name_is_missing_it(project):
    project.write(c="algorithm: {name: sft}\nmodel: {init_from: x}\ndata: {train: {path: y}}")
    assert project.load().data.train.options == {"path": "y"}
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", complete=True)
    assert [(m.key, m.place.short) for m in caught.value.mistakes] == [("data.train.name", "c.yaml:3")]


def test_entry_points_are_asked_last(project, tmp_path):
    info = tmp_path / "site" / "lab_entry-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-entry\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ostinato.plugins]\nentry = lab_entry\ngone = lab_gone\n")
    (tmp_path / "site" / "lab_entry.py").write_text(ZIPPY + ZIPPY.replace('"zippy"', '"adamw"'))
    ready = "optimizer: {name: zippy, speed: 3}\nalgorithm: {name: sft}\nmodel: {init_from: x}"
    project.write(c=ready, d="optimizer: {name: adamw}")
    code = (
        "from ostinato.core.config import load_config\n"
        "print(load_config('c.yaml').optimizer.options['speed'], load_config('d.yaml').optimizer.name)\n"
        "load_config('c.yaml', complete=True)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert run.stdout == "3 adamw\n", run.stderr
    assert "warning: the plugin lab_gone, announced by an installed package: no such module" in run.stderr
