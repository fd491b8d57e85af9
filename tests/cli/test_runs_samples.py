"""`ostinato runs samples`: the tables and texts that runs keep, as text and as JSON."""

import json
import re

import pytest

from tests.cli.test_runs_verbs import ostinato
from tests.experiment.making import start_run

LONG = "so 12 and 7 make nineteen, as everybody knows " * 5
PROMPTS = ["12+7=", "1+1=", [{"role": "user", "content": "2+2?"}], [1, 2]]
RESPONSES = [LONG, "3\x1b[2J[red]", "4", ""]
SCORES = [0.25, 0.0, 1.0, None]
PARTS = [{"right": 1.0, "short": -0.75}, {"right": 0.0, "short": 0.0}, {"right": 1.0, "short": None}]
ADVANTAGES = [0.1, -1.5, 1.4, None]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three runs: one with tables of steps 2 and 10, one with a text, one with nothing."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {name: start_run(folder, name=name).folder for name in ("table", "text", "nothing")}
    columns = zip(PROMPTS, RESPONSES, SCORES, [*PARTS, {"right": None, "short": None}], ADVANTAGES, strict=True)
    names = ("prompt", "response", "score", "parts", "advantage")
    rows = [dict(zip(names, values, strict=True)) for values in columns]
    lines = [json.dumps({**row, "stop_reason": "eos", "tokens": 5 + n}) + "\n" for n, row in enumerate(rows)]
    (runs["table"] / "outputs/samples/step_00000010.jsonl").write_text("".join(lines) + '{"prompt": "being wri')
    (runs["table"] / "outputs/samples/step_00000002.jsonl").write_text(lines[1])
    (runs["text"] / "outputs/samples/step_00000007.txt").write_text("one [bold]day\n---\nanother\nday\n")
    return folder / "experiments"


def test_the_newest_step_with_every_column(root):
    done = ostinato("samples", "table", "--root", root)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == "table  step 10  4 of 4 samples"
    header = next(line for line in lines if "prompt" in line)
    assert header.split() == ["prompt", "response", "score", "rewards", "advantage", "stop", "tokens"]
    assert max(map(len, lines)) <= 120
    text = " ".join(done.stdout.split())
    assert text.count("everybody") == 5 and "user: 2+2?" in text  # a long response wraps, whole
    assert r"3\x1b[2J[red]" in text and "\x1b" not in done.stdout  # nothing a model says commands the terminal
    rows = [line.split() for line in lines if "eos" in line]
    assert rows[2][:3] == ["user:", "2+2?", "4"] and rows[2][-3:] == ["1.4000", "eos", "7"]
    assert rows[3] == ["[1,", "2]", "right", "none", "eos", "8"]


@pytest.mark.parametrize(
    ("sort", "scores"),
    [
        ("score", [0.0, 0.25, 1.0, None]),
        ("-score", [1.0, 0.25, 0.0, None]),
        ("advantage", [0.0, 0.25, 1.0, None]),
        ("-tokens", [None, 1.0, 0.0, 0.25]),
        ("short", [0.25, 0.0, 1.0, None]),
    ],
)
def test_best_or_worst_first(root, sort, scores):
    found = json.loads(ostinato("samples", "table", "--root", root, "--sort", sort, "--json").stdout)
    assert (found["run"], found["step"], found["count"]) == ("table", 10, 4)
    assert [row["score"] for row in found["samples"]] == scores


def test_limit(root):
    done = ostinato("samples", "table", "--root", root, "--limit", 1, "--sort", "-score")
    assert "1 of 4 samples" in done.stdout and "2+2?" in done.stdout and "12+7" not in done.stdout
    for limit, count in ((2, 2), (0, 4)):
        found = json.loads(ostinato("samples", "table", "--root", root, "--limit", limit, "--json").stdout)
        assert (len(found["samples"]), found["count"]) == (count, 4)


def test_another_step_and_which_there_are(root):
    found = json.loads(ostinato("samples", "table", "--root", root, "--step", 2, "--json").stdout)
    assert [row["prompt"] for row in found["samples"]] == ["1+1="]
    done = ostinato("samples", "table", "--root", root, "--step", "all")
    assert [line.split()[:4] for line in done.stdout.splitlines()] == [
        ["step", "2", "1", "samples"],
        ["step", "10", "4", "samples"],
    ]
    found = json.loads(ostinato("samples", "table", "--root", root, "--step", "all", "--json").stdout)
    assert [(one["step"], one["count"]) for one in found["steps"]] == [(2, 1), (10, 4)]


def test_plain_texts(root):
    done = ostinato("samples", "text", "--root", root)
    assert done.stdout == "text  step 7  2 of 2 samples\none [bold]day\n---\nanother\nday\n"
    found = json.loads(ostinato("samples", "text", "--root", root, "--json", "--limit", 1).stdout)
    assert found["samples"] == [{"text": "one [bold]day"}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "nothing kept no samples. logging.samples_interval: N keeps them"),
        (("table", "--step", "3"), "--step 3: table kept no samples then, but at 2, 10."),
        (("table", "--step", "-1"), "--step -1"),
        (("table", "--sort", "beauty"), "no sample has 'beauty'. Choose of score, advantage, tokens, right, short."),
        (("text", "--sort", "score"), "no sample has 'score'"),
        (("tabel",), "Did you mean table?"),
    ],
)
def test_what_is_asked_in_vain_exits_2(root, arguments, words):
    done = ostinato("samples", *arguments, "--root", root)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_damaged_line_exits_3_with_its_place(root):
    run = start_run(root.parent, name="damaged").folder
    (run / "outputs/samples/step_00000001.jsonl").write_text('{"prompt": "a"}\n{"pro\n{}\n')
    done = ostinato("samples", "damaged", "--root", root)
    assert done.returncode == 3 and re.search(r"step_00000001\.jsonl:2: damaged", done.stderr)
