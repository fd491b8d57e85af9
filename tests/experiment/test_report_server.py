"""Live pages: what is answered, to whom, and that nothing is written."""

import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from ostinato.core.errors import UserError
from ostinato.experiment.report_server import ReportServer, is_local
from tests.experiment.reports import EVIL, evil_run, train, write_run, write_samples


@pytest.fixture
def root(tmp_path):
    """Two runs below a root, and one beside it that nobody may see."""
    write_run(tmp_path / "runs", "good", train(5), group="g", tags=["first"])
    write_run(tmp_path / "runs", "other", train(3), group="g")
    write_run(tmp_path, "secret", train(5))
    return tmp_path / "runs"


@contextmanager
def serving(root, **options):
    server = ReportServer(root, **options)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(server, path, **headers):
    """Status, text and headers of an answer."""
    method = headers.pop("method", "GET")
    address = f"http://127.0.0.1:{server.server_address[1]}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers, method=method)) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def files_of(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_all_runs_are_listed_and_grouped(root):
    with serving(root) as server:
        status, page, headers = ask(server, "/")
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
        assert 'href="report?run=good"' in page and 'name="run" value="other"' in page and "first" in page
        assert "secret" not in page
        assert "default-src 'none'" in page and headers["Referrer-Policy"] == "no-referrer"
        grouped = json.loads(ask(server, "/runs.json?group=seeds")[1])["parts"]["list"]
        assert 'class="group"' in grouped and grouped.count('type="checkbox"') == 2
        assert ask(server, "/?group=%3Cscript%3E")[0] == 200


def test_a_report_is_live(root):
    with serving(root) as server:
        status, page, _ = ask(server, "/report?run=good&run=other")
        assert status == 200 and "report.json?run=good\\u0026run=other" in page and "connect-src" in page
        status, text, headers = ask(server, "/report.json?run=good")
        news = json.loads(text)
        assert news["drawn"]["charts"][0]["lines"][0]["step"] == [1] * 5
        assert set(news["parts"]) == {"runs", "evaluations", "options", "samples", "facts", "metrics"}
        same = {"If-None-Match": headers["ETag"]}
        assert ask(server, "/report.json?run=good", **same)[0] == 304
        with (root / "good/logs/metrics.jsonl").open("a") as file:
            file.write('{"kind":"train","step":6,"segment":0,"time":2000.0,"loss":0.1}\n')
        status, text, _ = ask(server, "/report.json?run=good", **same)
        assert status == 200 and len(json.loads(text)["drawn"]["charts"][0]["lines"][0]["step"]) == 6
        write_samples(root / "good", 6, [{"prompt": "a", "response": "said late"}])
        assert "said late" in ask(server, "/report.json?run=good")[1]


@pytest.mark.parametrize(
    "path",
    [
        "/report?run=../secret",
        "/report?run=..%2Fsecret",
        "/report.json?run=%2Fetc",
        "/report.json?run=good&run=../secret",
        "/report?run=good%00",
        "/report",
        "/../secret/config.yaml",
        "/good/config.yaml",
        "/%2e%2e/secret/config.yaml",
    ],
)
def test_no_path_leads_out_of_the_list(root, path):
    with serving(root) as server:
        status, text, _ = ask(server, path)
        assert status == 404 and len(text) < 100


def test_nothing_is_changed_and_nothing_but_reading_is_answered(root):
    before = files_of(root)
    with serving(root) as server:
        for path in ("/", "/report?run=good", "/report.json?run=good", "/runs.json"):
            assert ask(server, path)[0] == 200
            assert ask(server, path, method="HEAD")[:2] == (200, "")
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                assert ask(server, path, method=method)[0] == 501
    assert files_of(root) == before


def test_a_page_of_another_name_is_refused(root):
    with serving(root) as server:
        port = server.server_address[1]
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
            assert ask(server, "/", Host=host)[0] == 200
        for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "127.0.0.1:1"):
            assert ask(server, "/", Host=host)[0] == 403


def test_elsewhere_a_token_is_needed_on_every_page(root):
    with serving(root, host="0.0.0.0") as server:
        token = urlsplit(server.address).query
        assert token.startswith("token=") and len(token) > 30
        for path in ("/", "/report?run=good", "/report.json?run=good", "/runs.json"):
            assert ask(server, path)[0] == 403
            both = "&" if "?" in path else "?"
            assert ask(server, f"{path}{both}token=wrong")[0] == 403
            assert ask(server, f"{path}{both}{token}")[0] == 200
        page = ask(server, f"/?{token}")[1]
        assert f"report?run=good&amp;{token}" in page and f'value="{token[6:]}"' in page
        assert token in ask(server, f"/report?run=good&{token}")[1]


def test_what_is_evil_stays_text(tmp_path):
    evil_run(tmp_path / "runs")
    with serving(tmp_path / "runs") as server:
        assert EVIL[:20] not in ask(server, "/")[1].replace("</script>\n", "")
        for part in json.loads(ask(server, "/report.json?run=evil")[1])["parts"].values():
            assert "<script" not in part and "<img" not in part


def test_no_runs_and_a_root_that_is_not_there(tmp_path):
    with serving(tmp_path / "nowhere") as server:
        assert "No runs yet" in ask(server, "/")[1]


def test_an_address_that_cannot_be_served(root):
    with serving(root) as server, pytest.raises(UserError, match="cannot be served"):
        ReportServer(root, port=server.server_address[1])
    with pytest.raises(UserError, match="no.such.host.invalid:0 cannot be served"):
        ReportServer(root, host="no.such.host.invalid")


def test_what_is_this_machine():
    assert [is_local(host) for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1")] == [True] * 4
    assert [is_local(host) for host in ("0.0.0.0", "::", "10.0.0.1", "evil.example", "")] == [False] * 5
