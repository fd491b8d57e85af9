"""The page: one file, below 1 MB, with nothing in it that came from data as code."""

import json
import re
from html.parser import HTMLParser

import pytest

from ostinato.core.errors import RefusedError, UserError
from ostinato.experiment.report import render, write_report
from ostinato.experiment.report_data import report_data
from tests.experiment.reports import EVIL, evaluation, evil_run, train, write_run, write_samples


class Elements(HTMLParser):
    """Names of elements, attributes, and the text of each script and style."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.words = [], [], {}, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag in ("script", "style"):
            self.texts[len(self.tags)] = ""

    def handle_data(self, data):
        if len(self.tags) in self.texts and self.tags[-1] in ("script", "style"):
            self.texts[len(self.tags)] += data
        else:
            self.words.append(data)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_every_text_of_data_is_escaped(tmp_path):
    """A run of attacks has the same elements as a harmless one, and says them as text."""
    page = render(report_data([evil_run(tmp_path)]))
    found = Elements(page)
    assert found.tags.count("script") == 2 and "img" not in found.tags
    assert not [one for one in found.attributes if one[1].startswith("on")]
    assert "\u2028" not in "".join(found.texts.values())
    assert EVIL in data_of(page)["charts"][-1]["metric"] + str(data_of(page)["runs"])
    words = "".join(found.words)
    assert words.count("</script><script>alert(1)</script>") >= 14  # state, config, samples, facts, metrics, marks


def test_the_file_allows_its_own_style_and_script_alone(tmp_path):
    page = render(report_data([write_run(tmp_path, "a", train(3))]))
    found = Elements(page)
    policy = next(value for tag, name, value in found.attributes if tag == "meta" and value and "default-src" in value)
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; script-src 'sha256-[\w+/=]{44}'; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    addresses = [value for _, name, value in found.attributes if name in ("src", "href", "action", "data")]
    assert addresses and all(value.startswith("#") for value in addresses)
    assert not [one for one in found.attributes if one[1] == "style"]
    assert "url(" not in page and "@import" not in page


def test_without_script_the_values_are_in_tables(tmp_path):
    folder = write_run(tmp_path, "a", [*train(10), evaluation(10, 0.875, 0.01)], data={"sources": []}, numerics="fast")
    write_samples(folder, 5, [{"prompt": "2+2=", "response": "5", "score": 0.0}])
    text = " ".join(" ".join(Elements(render(report_data([folder]))).words).split())
    assert "held out run first last change best at step validation/reward/mean a 0.8750 ± 0.0196" in text
    assert "loss 0.2000" in text  # 2 / 10
    assert "training.learning_rate 0.001" in text
    assert "2+2= 5 0" in text
    assert "what would stop a reproduction not captured: the code fast numerics environment not recorded" in text
    assert "Curves are drawn by this file's own script, which is switched off here." in text


def noise(*seeds):
    """A number between 0 and 1 with many digits."""
    return sum(7919 ** (place + 1) * (seed + 1) for place, seed in enumerate(seeds)) % 9973 / 9973


@pytest.mark.parametrize(("runs", "steps", "metrics"), [(2, 4000, 50), (40, 100, 40)])
def test_a_report_is_below_a_megabyte(tmp_path, runs, steps, metrics):
    long = "\u00e9<&" * 500
    folders = []
    for number in range(runs):
        rows = [
            {"kind": "train", "step": step, **{f"group/metric{m}": noise(step, m, number) for m in range(metrics)}}
            for step in range(1, steps + 1)
        ]
        folder = write_run(tmp_path, f"run{number}", rows, group="same")
        for step in range(10):
            write_samples(folder, step, [{"prompt": f"{n}{long}", "response": long, "score": 0.5} for n in range(20)])
        folders.append(folder)
    path = write_report(folders, tmp_path / "report.html")
    assert path.stat().st_size < 1_000_000
    found = data_of(path.read_text(encoding="utf-8"))
    assert all(len(line["step"]) <= 2000 for chart in found["charts"] for line in chart["lines"])
    assert found["charts"]


def test_where_a_report_lies(tmp_path):
    a, b = write_run(tmp_path, "a", train(1)), write_run(tmp_path, "b", train(1))
    assert write_report([a]) == a / "outputs/report.html"
    assert write_report([a, b]) == tmp_path / "report.html"
    assert write_report([a, b], root=tmp_path) == tmp_path / "report.html"  # again, over the old one
    assert not list(tmp_path.glob(".report*"))


def test_what_is_no_page_is_never_written_over(tmp_path):
    folder = write_run(tmp_path, "a", train(1))
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(RefusedError, match="is no HTML page"):
        write_report([folder], folder / "config.yaml")
    assert (folder / "config.yaml").read_bytes() == before
    with pytest.raises(UserError, match="is a folder"):
        write_report([folder], tmp_path)
    with pytest.raises(UserError, match="lies in no folder"):
        write_report([folder], tmp_path / "no" / "report.html")


def test_a_run_with_nothing_and_a_damaged_one_have_a_page(tmp_path):
    bare = write_run(tmp_path, "bare", [], status={"state": "running"})
    broken = write_run(tmp_path, "broken", train(2), lineage={"init_from": 7}, tags=None)
    (bare / "status.json").unlink()
    words = " ".join(Elements(write_report([bare, broken]).read_text(encoding="utf-8")).words)
    assert "recorded in a form that is not understood" in words
    assert "damaged" in words
