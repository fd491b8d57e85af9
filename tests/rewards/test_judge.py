"""A judge over HTTP: a real server that answers, fails, is slow and talks nonsense."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ostinato.core.errors import OstinatoError
from ostinato.rewards.judge import Judge, waiting
from tests.rewards.responses import CONTEXT, response


class Server(ThreadingHTTPServer):
    """Answers the n-th question with the n-th of `script`, the last again and again; keeps what it was sent."""

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.received, self.lock = script, [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            answer = self.server.script[min(len(self.server.received), len(self.server.script) - 1)]
            self.server.received.append((self.path, self.headers["Authorization"], body))
        if callable(answer):
            answer = answer(body)
        if isinstance(answer, int):
            self.send_response(answer)
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        raw = (
            answer
            if isinstance(answer, bytes)
            else json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*script):
        server = Server(script)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def judge(server, **options):
    return Judge(CONTEXT, url=server.url, model="m", **({"backoff_seconds": 0.001} | options))


ROW = {"prompt": "What is {response}?", "answer": "four"}


def test_a_question_holds_prompt_response_and_gold(serve, monkeypatch):
    server = serve("It is fine.\nScore: 7.5")
    monkeypatch.setenv("JUDGE_KEY", "secret")
    template = "P={prompt} R={response} G={answer} {json: true}"
    asked = judge(server, template=template, api_key_variable="JUDGE_KEY", parameters={"max_tokens": 9})
    assert asked([response("4 {answer}", ROW)]) == [7.5]
    (path, key, body), *rest = server.received
    assert (path, key, rest) == ("/v1/chat/completions", "Bearer secret", [])
    question = "P=What is {response}? R=4 {answer} G=four {json: true}"  # nothing is filled in twice
    assert body == {"model": "m", "messages": [{"role": "user", "content": question}], "max_tokens": 9}
    assert "secret" not in repr(vars(asked))


def test_the_default_question_and_messages_as_a_prompt(serve):
    server = serve("Score: 3\nNo: **Score:** -2")
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "gold"}]}
    assert judge(server)([response("Hello", row)]) == [-2.0]  # the last one
    _, key, body = server.received[0]
    question = body["messages"][0]["content"]
    assert "[Prompt]\nuser: Hi\n\n[Response]\nHello\n" in question and "gold" not in question
    assert key is None and body["temperature"] == 0


def test_each_response_gets_its_own_score(serve):
    server = serve(lambda body: "Score: " + body["messages"][0]["content"])
    samples = [response(str(number), {}) for number in range(20)]
    assert judge(server, template="{response}", workers=4)(samples) == [float(number) for number in range(20)]


def test_passing_failures_are_tried_again(serve):
    server = serve(503, 429, b"no json", b'{"choices": []}', "no number", "Score: 1")
    assert judge(server, retries=5)([response("x", ROW)]) == [1.0]
    assert len(server.received) == 6


def test_after_its_retries_a_response_is_unscorable(serve, caplog):
    server = serve(500)
    assert judge(server, retries=2, workers=1)([response("x", ROW), response("y", ROW)]) == [None, None]
    assert len(server.received) == 6
    (record,) = caplog.records
    assert record.getMessage() == "judge: no score for 2 of 2 responses; one of them: HTTP 500"


def test_each_try_waits_longer_than_the_one_before():
    assert [waiting(trial, 0.5) for trial in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert waiting(0, 0.5, told_seconds=7.0) == 7.0 and waiting(0, 0.5, told_seconds=3600.0) == waiting(30, 1.0) == 60.0


def test_a_response_that_the_server_refuses_is_not_sent_again(serve):
    server = serve(400, "Score: 2")
    assert judge(server, workers=1)([response("too long", ROW), response("y", ROW)]) == [None, 2.0]
    assert len(server.received) == 2


@pytest.mark.parametrize("status", [401, 404])
def test_a_refused_key_or_address_stops_the_run(serve, status):
    server = serve(status)
    with pytest.raises(OstinatoError, match=f"/v1/chat/completions answers HTTP {status}"):
        judge(server)([response("x", ROW)])


def test_a_silent_server_and_none_at_all(serve):
    released = threading.Event()
    server = serve(lambda body: released.wait(60) and "Score: 1")
    assert judge(server, retries=0, timeout_seconds=0.2)([response("x", ROW)]) == [None]
    released.set()
    nowhere = Judge(CONTEXT, url="http://127.0.0.1:9", model="m", retries=1, backoff_seconds=0.001)
    assert nowhere([response("x", ROW)]) == [None]


def test_a_pattern_finds_the_score(serve):
    server = serve("[[8]] of 10")
    assert judge(server, pattern=r"\[\[(\d+)\]\]")([response("x", ROW)]) == [8.0]
    assert judge(server, pattern=r"\d+")([response("x", ROW)]) == [10.0]


def test_what_is_wrong_is_said_when_it_is_built(monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ValueError, match="url: 'file:///etc' begins with neither"):
        Judge(CONTEXT, url="file:///etc", model="m")
    with pytest.raises(ValueError, match="the environment variable NO_KEY is not set"):
        Judge(CONTEXT, url="http://x", model="m", api_key_variable="NO_KEY")
    with pytest.raises(ValueError, match="pattern: '\\(' is no regular expression"):
        Judge(CONTEXT, url="http://x", model="m", pattern="(")


def test_a_row_without_a_prompt_is_an_error(serve):
    with pytest.raises(OstinatoError, match="no column question"):
        judge(serve("Score: 1"), prompt="question")([response("x", {"prompt": "p"})])
