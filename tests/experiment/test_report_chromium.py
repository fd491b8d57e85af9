"""The page in a real browser, opened from the disk: no error, no request, and controls that do what they say."""

import math
import threading

import pytest

from ostinato.experiment.report import write_report
from ostinato.experiment.report_server import ReportServer
from tests.experiment.chromium import PROGRAM, Chromium
from tests.experiment.reports import evaluation, evil_run, train, write_run, write_samples

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")]
PIXELS = """[...document.querySelectorAll('#first canvas')].map(c => {
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = new Set();
  for (let i = 0; i < d.length; i += 4) if (d[i + 3] === 255) seen.add(d[i] + ',' + d[i + 1] + ',' + d[i + 2]);
  return [...seen]; })"""
BLUE, ORANGE = "0,114,178", "213,94,0"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two seeds and a run that failed; one has values that are not finite, a rewind, and text that attacks."""
    root = tmp_path_factory.mktemp("runs")
    rows = train(300)
    for row in rows:
        row["loss"] += 0.3 + 0.2 * math.sin(row["step"])
    rows[100]["loss"], rows[200]["loss"] = "nan", "inf"
    rows += [evaluation(step, step / 400) for step in (0, 100, 200, 300)]
    rows += [{"kind": "event", "step": 120, "event": "spike"}]
    folders = [write_run(root, f"sft-seed{seed}", rows, group="same", seed=seed) for seed in (1, 2)]
    lost = [*train(150, 3.0), {"kind": "rewind", "step": 90, "segment": 1}]
    folders.append(write_run(root, "failed", lost, status={"state": "failed", "step": 90, "reason": "not finite"}))
    for folder in folders:
        write_samples(folder, 100, [{"prompt": "1+1=", "response": "2 " * 200, "score": 1.0, "parts": {"right": 1.0}}])
    folders.append(evil_run(root))
    return write_report(folders, root / "report.html")


def test_no_error_and_no_request(page):
    with Chromium() as browser:
        browser.open(page.as_uri())
        assert browser.evaluate("document.querySelectorAll('#first canvas').length") == 3
        drawn = browser.evaluate(PIXELS)
        assert any(BLUE in colors for colors in drawn) and all(len(colors) > 3 for colors in drawn)
        browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        browser.settle()
        assert browser.problems == []
        assert browser.requests == [page.as_uri()]
        assert browser.evaluate("document.querySelectorAll('img').length") == 0


def test_controls(page):
    """Axis, smoothing, logarithm, seeds, search, zoom and hover; each does something, none an error."""
    with Chromium() as browser:
        browser.open(page.as_uri())
        loss = "[...document.querySelectorAll('#first figure')].findIndex(f => f.innerText.startsWith('loss'))"
        place = browser.evaluate(loss)
        image = f"document.querySelectorAll('#first canvas')[{place}].toDataURL()"
        images = [browser.evaluate(image)]

        def changed(action):
            browser.evaluate(action)
            browser.settle(0.1)
            images.append(browser.evaluate(image))
            assert images[-1] not in images[:-1], action

        changed("document.querySelector('#axis input[value=tokens]').click()")
        changed("document.querySelector('#axis input[value=seconds]').click()")
        changed("smoothing.value = 0.9; smoothing.dispatchEvent(new Event('input'))")
        changed("document.getElementById('log').click()")
        changed("seeds.click()")
        changed("document.querySelector('#legend button').click()")
        assert browser.evaluate("document.querySelectorAll('#legend button').length") == 4
        browser.evaluate("document.querySelector('#axis input[value=step]').click(); seeds.click()")
        browser.evaluate("smoothing.value = 0; smoothing.dispatchEvent(new Event('input'))")
        canvas = f"document.querySelectorAll('#first canvas')[{place}]"
        browser.evaluate(f"{canvas}.scrollIntoView({{block: 'center'}})")
        box = browser.evaluate(f"(b => [b.left, b.top, b.width, b.height])({canvas}.getBoundingClientRect())")
        middle = box[1] + box[3] / 2
        browser.mouse("Moved", box[0] + box[2] / 2, middle)
        text = browser.evaluate(f"{canvas}.parentNode.querySelector('.readout').innerText")
        assert "step 1" in text and "sft (2 seeds)" in text and " to " in text
        browser.mouse("Pressed", box[0] + box[2] / 2, middle)
        browser.mouse("Moved", box[0] + box[2] * 0.8, middle)
        browser.mouse("Released", box[0] + box[2] * 0.8, middle)
        assert browser.evaluate("document.getElementById('whole').hidden") is False
        browser.evaluate("document.getElementById('whole').click()")
        assert browser.evaluate("document.getElementById('whole').hidden") is True
        browser.evaluate(
            "(f => { f.value = 'reward'; f.dispatchEvent(new Event('input')); })(document.getElementById('find'))"
        )
        visible = "[...document.querySelectorAll('#first figure:not([hidden]) figcaption')].map(f => f.firstChild.data)"
        assert browser.evaluate(visible) == ["validation/reward/mean"]
        assert browser.problems == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_every_screen(page, width, dark):
    """Nothing is wider than the screen, and the colours are those of the scheme."""
    with Chromium(width, 900, dark=dark) as browser:
        browser.open(page.as_uri())
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
        blue = "74,168,232" if dark else BLUE
        assert any(blue in colors for colors in browser.evaluate(PIXELS))
        browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert any(BLUE in colors for colors in browser.evaluate(PIXELS))  # paper is white
        assert browser.problems == []


def test_without_script(page):
    with Chromium(script=False) as browser:
        browser.open(page.as_uri())
        assert "sft-seed1" in browser.evaluate("document.body.innerText")
        assert browser.evaluate("document.querySelector('noscript').innerText").startswith("Curves are drawn by")
        assert browser.evaluate("document.querySelector('.controls').hidden") is True
        assert browser.problems == []


def test_a_live_page_follows_its_run(tmp_path):
    run = write_run(tmp_path, "run", train(5), status={"state": "running"})
    server = ReportServer(tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Chromium() as browser:
            browser.open(server.address)
            browser.evaluate("document.querySelector('#list input').click()")
            assert browser.evaluate("document.getElementById('open').textContent") == "Open 1 run"
            browser.evaluate("document.getElementById('open').click()")
            browser.settle(1.5)
            assert browser.evaluate("document.querySelector('h1').textContent") == "run"
            assert "5 / 10" in browser.evaluate("document.querySelector('#runs').innerText")
            with (run / "logs/metrics.jsonl").open("a") as file:
                file.write('{"kind":"train","step":6,"segment":0,"time":2000.0,"loss":0.1,"late":1.0}\n')
            browser.settle(4.5)
            assert "6 / 10" in browser.evaluate("document.querySelector('#runs').innerText")
            assert browser.problems == []
    finally:
        server.shutdown()
        server.server_close()
