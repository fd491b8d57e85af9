"""`ostinato runs report` and `serve` as they are typed; and the report that training leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.cli.test_runs_verbs import ostinato
from tests.experiment.reports import train, write_run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        write_run(folder, name, train(5))
    return folder


def test_one_run_and_several(root):
    done = ostinato("report", "one", "--root", root)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{root}/one/outputs/report\.html  \(\d+ kB\)\n", done.stdout)
    found = json.loads(ostinato("report", "one", root / "two", "one", "--root", root, "--json").stdout)
    path = root / "report.html"
    assert found == {"report": str(path), "bytes": path.stat().st_size, "runs": ["one", "two"]}
    assert path.read_text().startswith("<!doctype html>")


def test_where_one_wants_it(root, tmp_path):
    assert ostinato("report", "one", "--root", root, "-o", tmp_path / "a.html").returncode == 0
    assert (tmp_path / "a.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("onee",), 2, "Did you mean one?"),
        ((), 2, "RUN"),
        (("one", "-o", "/no/such/folder/a.html"), 2, "lies in no folder that exists"),
        (("one", "-o", "{root}/one/metadata.json"), 3, "is no HTML page; it stays as it is"),
    ],
)
def test_what_is_refused(root, arguments, code, words):
    done = ostinato("report", *(argument.format(root=root) for argument in arguments), "--root", root)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr and "Traceback" not in done.stderr


def test_serve_says_its_address_and_ends_at_ctrl_c(root):
    command = [sys.executable, "-u", "-m", "ostinato", "runs", "serve", "--root", str(root), "--json"]
    heeded = {
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    }  # what runs in the background ignores it
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heeded)
    try:
        text = "".join(server.stdout.readline() for _ in range(4))
        address = json.loads(text)["address"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert 'href="report?run=one"' in urllib.request.urlopen(address).read().decode()
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0 and server.stderr.read() == ""
    finally:
        server.kill()


CONFIG = """
experiment: {{name: {name}, output_root: {root}}}
algorithm: {{name: sft}}
model: {{{model}}}
tokenizer: {{name: byte}}
data: {{train: {{name: addition, digits: 1, size: 64}}, sequence_length: 40}}
training: {{total_steps: 2, batch_size: 4, numerics: deterministic, device: cpu}}
logging: {{trackers: {{}}}}
"""
TINY = "name: transformer, layers: 1, width: 16, heads: 2"


@pytest.mark.slow
def test_training_ends_with_reports(tmp_path):
    """Each run of a chain names its own, then one of all; one that cannot be written is a warning and no more."""
    root = tmp_path / "experiments"
    for name, model in (("first", TINY), ("second", "init_from: 'run:first'")):
        (tmp_path / f"{name}.yaml").write_text(CONFIG.format(name=name, root=root, model=model))

    def run(*names, before=""):
        command = [sys.executable, "-m", "ostinato", "train", *(str(tmp_path / f"{name}.yaml") for name in names)]
        environment = os.environ | {"PYTHONPATH": before + os.environ.get("PYTHONPATH", "")}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    done = run("first", "second")
    assert done.returncode == 0, done.stderr
    reports = re.findall(r"^  (?:report|all 2 runs) +(\S+)$", done.stdout, re.M)
    assert reports == [str(root / f"{where}report.html") for where in ("first/outputs/", "second/outputs/", "")]
    assert all((tmp_path / path).read_text().startswith("<!doctype html>") for path in reports)
    (tmp_path / "third.yaml").write_text(CONFIG.format(name="third", root=root, model=TINY))
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Broken:\n    def find_spec(self, name, *more):\n"
        "        if name == 'ostinato.experiment.report':\n            raise RuntimeError('no page today')\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    done = run("third", before=f"{tmp_path}:")
    assert done.returncode == 0 and "warning: no report was written: no page today" in done.stderr
    assert "report   " not in done.stdout
