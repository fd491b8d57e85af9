"""Code that is run: real problems, and programs that would do harm."""

import gzip
import json
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ostinato.core.errors import OstinatoError
from ostinato.rewards import sandbox
from ostinato.rewards.code_tests import CodeTests, code_of
from ostinato.rewards.sandbox import CHILD, Limits, run_tests
from ostinato.rewards.weighted_sum import WeightedSum
from tests.rewards.responses import CONTEXT, DATA, response

LIMITS = Limits(cpu_seconds=1, memory_mb=512, files_mb=4, processes=1)
BOTH = pytest.mark.parametrize("namespaces", [True, False])
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox takes Linux")


def test_the_code_is_the_last_fenced_block():
    assert code_of("x = 1\n") == "x = 1\n"
    assert code_of("First:\n```\na\n```\nthen\n```python title=x\nb\n\nc\n```\nDone.") == "b\n\nc\n"
    assert code_of("````python\n```\ninner\n```\n````") == "```\ninner\n```\n"
    assert code_of("```python\ncut o") == "cut o\n"  # to the end where it is not closed
    assert code_of("```py\nx = '''\n``` no fence\n'''\n```") == "x = '''\n``` no fence\n'''\n"
    assert code_of("text ```x``` text") == "text ```x``` text"


def test_solutions_of_real_problems_pass_and_empty_ones_do_not():
    file = DATA / "humaneval.jsonl.gz"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    with gzip.open(file, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    right = [response(f"So:\n```python\n{row['prompt']}{row['canonical_solution']}```", row) for row in rows]
    assert CodeTests(CONTEXT, tests="test")(right) == [1.0] * 100
    completions = [response(row["canonical_solution"], row) for row in rows[:5]]
    assert CodeTests(CONTEXT, tests="test", prefix="prompt")(completions) == [1.0] * 5
    wrong = [response(f"{row['prompt']}    return None\n", row) for row in rows[:10]]
    assert CodeTests(CONTEXT, tests="test")(wrong) == [0.0] * 10


DOUBLE = {"tests": ["assert f(1) == 2", "assert f(2) == 4", "assert f(3) == 6", "assert f('a') == 'aa'"]}


def test_partial_is_the_share_of_tests_passed():
    texts = {"def f(x): return x * 2": 1.0, "def f(x): return x + x if x != 2 else 0": 0.75, "def f(x": 0.0, "": 0.0}
    samples = [response(text, DOUBLE) for text in texts]
    assert CodeTests(CONTEXT, partial=True)(samples) == list(texts.values())
    assert CodeTests(CONTEXT)(samples) == [1.0, 0.0, 0.0, 0.0]


def test_a_crash_or_a_time_out_takes_all_tests():
    crash = "import os\ndef f(x): return x * 2 if x != 2 else os.abort()"
    loop = "def f(x):\n    while x == 2: pass\n    return x * 2"
    leave = "import os\ndef f(x): return x * 2 if x != 2 else os._exit(0)"  # ends well, so the first test stands
    samples = [response(text, DOUBLE) for text in (crash, loop, leave)]
    assert CodeTests(CONTEXT, partial=True, timeout_seconds=1)(samples) == [0.0, 0.0, 0.25]


def test_without_tests_a_response_is_unscorable():
    reward = CodeTests(CONTEXT)
    assert reward([response("x", None), response("x", {}), response("x", {"tests": []})]) == [None] * 3
    with pytest.raises(OstinatoError, match=r"rewards.code: .*the column tests holds no code.*for prompt 3"):
        WeightedSum({"code": (reward, 1.0)})([response("x", {"tests": [1]}, prompt=3)])
    with pytest.raises(ValueError, match="are at least 1"):
        CodeTests(CONTEXT, processes=0)


def test_without_a_sandbox_nothing_is_run(monkeypatch, caplog):
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    assert CodeTests(CONTEXT)([response("def f(x): return 2 * x", DOUBLE)] * 2) == [None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # said once
    assert "no sandbox can be made here" in caplog.text


HARMFUL = {
    "endless loop": "while True: pass",
    "deaf to signals": "import signal\nfor number in (2, 15, 24): signal.signal(number, signal.SIG_IGN)\nwhile 1: pass",
    "memory": "hog = []\nwhile True: hog.append(bytearray(1 << 24))",
    "big file": "with open('big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
    "many files": "import itertools\nfor n in itertools.count(): open(f'{n}', 'wb').write(bytes(1 << 20))",
    "fork bomb": "import os\nwhile True: os.fork()",
    "stubborn fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "threads": "import threading\nwhile True: threading.Thread(target=input).start()",
    "flood": "import os\nfor pipe in range(3, 999):\n    try: os.write(pipe, bytes(9999))\n    except OSError: pass",
    "leaves": "import os\nos._exit(0)",
    "leaves politely": "import sys\nsys.exit(0)",
    "crashes": "import os\nos.abort()",
    "kills": "import os\nos.kill(1 if os.getpid() > 1 else 2, 9)",
    "runs another": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    "calls C": "import ctypes\nctypes.CDLL(None).unshare(0x10000000)",
    "reads input": "input()",
}


@BOTH
@pytest.mark.parametrize("program", HARMFUL.values(), ids=HARMFUL)
def test_harm_is_kept_within_and_passes_nothing(program, namespaces):
    outcome = run_tests(program, ["pass"], LIMITS, namespaces)
    assert outcome.sandbox and outcome.passed == [False]


def test_waiting_ends_by_the_clock():
    assert run_tests("import time\ntime.sleep(1000)", ["pass"], LIMITS).ended is False


@BOTH
def test_a_harmless_program_may_use_files_and_modules(namespaces):
    program = "import asyncio, os, random, tempfile\nopen('a', 'w').write('x')\nasync def five(): return 5\n"
    tests = [
        "assert os.listdir('.') == ['a']",
        "assert asyncio.run(five()) == 5",
        "tempfile.NamedTemporaryFile().write(b'x')",
        "assert not {name for name in os.environ if 'THREADS' not in name}",
        "assert __name__ == 'solution'",  # so that no example under `if __name__ == '__main__'` runs
    ]
    outcome = run_tests(program, tests, LIMITS, namespaces)
    assert outcome.passed == [True] * 5 and outcome.ended
    assert run_tests("import numpy", ["numpy.ones(3) @ numpy.ones(3)"], LIMITS, namespaces).passed == [True]


@BOTH
def test_files_outside_stay_as_they_are(namespaces):
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "target")
        target.write_text("kept")
        os.chmod(folder, 0o777)  # everyone may write here
        target.chmod(0o666)
        acts = [f"open('{target}', 'w').write('x')", f"os.remove('{target}')", f"os.mkdir('{target}s')"]
        tests = [f"assert open('{target}').read() == 'kept'", *acts]
        assert run_tests("import os", tests, LIMITS, namespaces).passed == [True, False, False, False]
        assert target.read_text() == "kept" and os.listdir(folder) == ["target"]


@BOTH
def test_there_is_no_network(namespaces):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = server.getsockname()
        connect = f"import socket\nsocket.create_connection({address!r}, timeout=2)"
        send = f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', {address!r})"
        assert run_tests(connect, ["pass", send], LIMITS, namespaces).passed == [False, False]
        assert run_tests("import socket", [send], LIMITS, namespaces).passed == [False]
        with pytest.raises(TimeoutError):
            server.accept()


def running() -> set[int]:
    """Processes that run the script of the sandbox."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended
            if os.fsencode(CHILD) in words:
                found.add(int(entry.name))
    return found


def test_processes_are_limited_and_none_outlives_the_program():
    program = """
import os, time
started = 0
try:
    while True:
        if os.fork() == 0:
            os.setsid()  # out of the group that is killed
            time.sleep(1000)
        started += 1
except OSError:
    pass
"""
    before = running()
    limits = Limits(cpu_seconds=1, memory_mb=512, files_mb=4, processes=6)
    if run_tests("", [], limits).sandbox != "namespaces":
        pytest.skip("without namespaces no process can be started")
    outcome = run_tests(program, ["assert 3 <= started <= 5"], limits)
    assert outcome.passed == [True]
    left, deadline = running() - before, time.monotonic() + 60
    while left & running():  # a session beside this one has its own, which end soon
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.1)


def test_no_file_of_a_program_outlives_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    for namespaces in (True, False):
        run_tests("open('a', 'w').write('x')", [], LIMITS, namespaces)
    assert os.listdir(tmp_path) == []


def test_sentinels_are_not_in_the_memory_of_the_program():
    program = """
import gc, sys
frame, found = sys._getframe(), []
while frame:
    found += [value for value in (*frame.f_locals.values(), *frame.f_globals.values()) if isinstance(value, bytes)]
    frame = frame.f_back
found += [thing for thing in gc.get_objects() if isinstance(thing, bytes)]
"""
    outcome = run_tests(program, ["assert not [value for value in found if len(value) == 16]"], LIMITS)
    assert outcome.passed == [True]


def test_the_order_of_a_set_repeats():
    program = "order = ''.join({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'})"
    tests = [f"assert order[{place}] == {letter!r}" for place in range(8) for letter in "abcdefgh"]
    first, second = (run_tests(program, tests, LIMITS).passed for _ in range(2))
    assert first == second and sum(first) == 8


def test_several_run_at_once():
    limits, outcomes = Limits(5, 512, 4, 1), {}

    def work(number):
        outcomes[number] = run_tests(f"n = {number}", [f"assert n == {number}", "assert n == 0"], limits)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcomes[number].passed for number in range(8)] == [[True, number == 0] for number in range(8)]
