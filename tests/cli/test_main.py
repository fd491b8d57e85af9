"""The end of the command line."""

import subprocess
import sys
import time

HANGS = """
import atexit, threading, time
from ostinato.cli.main import main
threading.Thread(target=time.sleep, args=(60,), name="ostinato-tracker-slow", daemon=True).start()
atexit.register(time.sleep, 60)  # as libraries do that wait for their servers
main(["components", "trackers"])
"""


def test_a_tracker_that_hangs_does_not_hold_the_end_up():
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=50)
    assert time.monotonic() - start < 45
    assert done.returncode == 0
    assert "tensorboard" in done.stdout and "mlflow" in done.stdout
