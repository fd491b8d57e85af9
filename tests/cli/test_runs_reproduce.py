"""`runs reproduce` as a user calls it: the same bits from the recorded code, and the cause named where not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.experiment.reading import read_json, read_rows
from tests.experiment.test_provenance import run_git
from tests.training.tiny import write_config, write_data

PLUGIN = '''"""Fine-tuning whose loss is scaled."""

from ostinato.algorithms.sft import SFT
from ostinato.core.registry import ALGORITHMS

SCALE = 1.0


@ALGORITHMS.register("scaled")
class Scaled(SFT):
    """Fine-tuning."""

    def compute_loss(self, batch):
        output = super().compute_loss(batch)
        output.loss = output.loss * SCALE
        return output
'''
CONFIG = """
experiment: {seed: 3}
model: {name: transformer, width: 16, layers: 1, heads: 2, tied_embeddings: true}
algorithm: {name: scaled}
data: {train: {name: jsonl, path: data/rows.jsonl}, validation_fraction: 0.1, sequence_length: 96}
training: {total_steps: 6, batch_size: 8, learning_rate: 1e-2}
logging: {log_interval: 1, eval_interval: 3, save_interval: 2, trackers!: {}}
plugins: [my_lab]
"""


def ostinato(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ostinato", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def reproduce(cwd: Path, *arguments: object, code: int = 0) -> dict:
    done = ostinato(cwd, "runs", "reproduce", "base", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A project with a plug-in and ignored data, and its run `base`."""
    folder = tmp_path_factory.mktemp("projects") / "lab"
    (folder / "my_lab" / "algorithms").mkdir(parents=True)
    for package in ("my_lab", "my_lab/algorithms"):
        (folder / package / "__init__.py").touch()
    (folder / "my_lab/algorithms/scaled.py").write_text(PLUGIN)
    (folder / "lab.yaml").write_text(CONFIG)
    (folder / ".gitignore").write_text("data/\nexperiments/\n__pycache__/\n")
    (folder / "data").mkdir()
    write_data(folder / "data")
    run_git(folder, "init", "-q")
    done = ostinato(folder, "train", "lab.yaml", "--name", "base")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def project(trained, tmp_path) -> Path:
    """A copy of it, to spoil, whose run says that it was made there."""
    copy = tmp_path / "lab"
    shutil.copytree(trained, copy, symlinks=True)
    metadata = read_json(copy / "experiments/base/metadata.json")
    metadata["cwd"] = str(copy)
    for entry in metadata["code"]:
        entry["root"] = entry["root"].replace(str(trained), str(copy))
    (copy / "experiments/base/metadata.json").write_text(json.dumps(metadata))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["pretrain", "sft", "grpo"])
def test_a_run_reproduces_bitwise(tmp_path, algorithm):
    done = ostinato(tmp_path, "train", write_config(tmp_path, algorithm), "--name", "base")
    assert done.returncode == 0, done.stderr
    report = reproduce(tmp_path)
    assert (report["verdict"], report["required"], report["met"]) == ("BITWISE", "bitwise", True)
    assert (report["steps"], report["evaluations"], report["checkpoint"]["step"]) == (6, 2, 6)
    assert report["checkpoint"]["tensors"] > 0 and report["checkpoint"]["differing"] == []
    runs = tmp_path / "experiments"
    assert read_json(runs / "base" / "provenance" / "reproduction_1.json") == report
    assert read_json(runs / "base-repro-1" / "provenance" / "reproduction_1.json") == report
    metadata = read_json(runs / "base-repro-1" / "metadata.json")
    assert "ostinato-rerun-" in metadata["command"][0]  # it was the restored ostinato that ran
    assert metadata["lineage"]["reproduces"] == {"run": "base", "id": read_json(runs / "base" / "metadata.json")["id"]}


@pytest.mark.slow
def test_recorded_code_runs_whatever_became_of_the_project(project):
    plugin = project / "my_lab/algorithms/scaled.py"
    plugin.write_text(PLUGIN.replace("SCALE = 1.0", "SCALE = 2.0"))
    report = reproduce(project, "--steps", "3")  # the ignored data is read from where it was
    assert (report["verdict"], report["steps"], report["evaluations"]) == ("BITWISE", 3, 1)
    assert read_json(project / "experiments/base-repro-1/status.json")["state"] == "preempted"
    found = json.loads(ostinato(project, "runs", "diff", "base", "base-repro-1", "--json").stdout)
    assert found["code"] == found["config"] == found["data"] == [] and found["first_difference"] is None
    assert ostinato(project, "runs", "verify", "base-repro-1").returncode == 0
    report = reproduce(project, "--current-code", code=4)
    assert report["verdict"] == "DIVERGED"
    assert {"kind": "code", "cause": "code of project: my_lab/algorithms/scaled.py changed"} in report["causes"]
    assert report["first_difference"]["step"] == 1
    assert report["steps"] < 6  # it did not go on


@pytest.mark.slow
def test_another_learning_rate_heads_the_causes(project):
    done = ostinato(project, "runs", "reproduce", "base", "-o", "training.learning_rate=1.1e-2", "--full")
    assert done.returncode == 4, done.stderr
    assert "DIVERGED at step 1: learning_rate is 0.011" in done.stdout
    assert "causes     1. -o training.learning_rate=1.1e-2" in done.stdout
    assert "compared   6 steps" in done.stdout
    assert "completed runs of its group" in done.stdout


@pytest.mark.slow
def test_other_data_is_refused_naming_the_file(project):
    data = project / "data" / "rows.jsonl"
    data.write_text(data.read_text().replace("quick", "quack", 1))
    done = ostinato(project, "runs", "reproduce", "base")
    assert done.returncode == 3, done.stdout
    assert "sources.train.content" in done.stderr and "data.train.path: data/rows.jsonl" in done.stderr
    assert not (project / "experiments" / "base-repro-1").exists()
    data.unlink()
    done = ostinato(project, "runs", "reproduce", "base")
    assert done.returncode == 3 and "data/rows.jsonl: no such file" in done.stderr


@pytest.mark.slow
def test_another_version_of_a_package_stops_unless_allowed_and_is_a_cause(project):
    run = project / "experiments" / "base"
    environment = read_json(run / "provenance" / "environment.json")
    environment["packages"]["numpy"] = "1.0.0"
    (run / "provenance" / "environment.json").write_text(json.dumps(environment))
    done = ostinato(project, "runs", "reproduce", "base")
    assert done.returncode == 3
    assert "Mend it: pip install numpy==1.0.0\n" in done.stderr
    rows = read_rows(run)
    rows[1]["loss"] += 1.0  # as if numpy 1.0.0 had computed something else
    (run / "logs" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = reproduce(project, "--allow-environment-drift", code=4)
    assert (report["verdict"], report["required"]) == ("DIVERGED", "tolerance")
    assert report["causes"][0]["cause"].startswith("packages: numpy: 1.0.0 -> ")
    assert (report["first_difference"]["step"], report["first_difference"]["field"]) == (2, "loss")


@pytest.mark.slow
def test_from_a_checkpoint(project):
    report = reproduce(project, "--from-checkpoint", "4")
    assert (report["verdict"], report["steps"], report["checkpoint"]["step"]) == ("BITWISE", 2, 6)
    rerun = project / "experiments" / "base-repro-1"
    assert ostinato(project, "runs", "verify", "base-repro-1").returncode == 0
    assert read_json(rerun / "metadata.json")["lineage"]["reproduces"]["run"] == "base"


@pytest.mark.slow
def test_what_cannot_be_tried(project):
    done = ostinato(project, "runs", "reproduce", "base", "--from-checkpoint", "5")
    assert done.returncode == 2 and "there are: 2, 4, 6" in done.stderr
    model = project / "experiments/base/checkpoints/step_00000002/model/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    done = ostinato(project, "runs", "reproduce", "base")
    assert done.returncode == 3 and "model.safetensors has" in done.stderr
    assert not list((project / "experiments").glob("base-repro*"))
    shutil.rmtree(model.parents[1])
    done = ostinato(project, "runs", "reproduce", "base", "-o", "experiment.name=mine")
    assert done.returncode == 2 and "a rerun's name and place are its own" in done.stderr
    done = ostinato(project, "runs", "reproduce", "base", "-o", "training.step=3")
    assert done.returncode == 2 and "training.step: unknown key" in done.stderr
    assert not list((project / "experiments").glob("base-repro*"))
