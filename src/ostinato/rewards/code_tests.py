"""The code in a response passes its row's tests."""

from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor

from ostinato.core.errors import OstinatoError
from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample
from ostinato.rewards.sandbox import Limits, Outcome, run_tests

log = logging.getLogger(__name__)
FENCE = re.compile(r" {0,3}(`{3,})([^`]*)")
STRENGTH = {
    "": "no sandbox can be made here (it takes Linux), so no code is run and no response is scored.",
    "namespaces": "code runs without network, with all files but its own read-only, as a process that sees no other.",
    "audit hook": "this system allows no namespaces: Python alone keeps code from network, processes and files.",
}


@REWARDS.register("code_tests")
class CodeTests:
    """1.0 if the code in the response passes all tests of the row, else 0.0; None without tests or without a sandbox.

    The code is the last fenced block, else the whole response, behind the row's column `prefix` if one is named (for
    HumanEval's completions: prompt). `tests` is the column of the tests, one text or a list; a text that defines
    `check` is followed by `check(name)`, with the name in the column `entry_point`. `partial`: the share of tests
    passed. Each response runs in a process of its own, within `timeout_seconds` of computing (and three times that by
    the clock), `memory_mb` per process, `files_mb` and `processes` (threads count); what crashes or takes longer gets
    0.0. `workers` responses run at once. The log says how strong the sandbox is.
    """

    shaping = False

    def __init__(
        self,
        context: RewardContext,
        *,
        tests: str = "tests",
        entry_point: str = "entry_point",
        prefix: str | None = None,
        partial: bool = False,
        timeout_seconds: int = 5,
        memory_mb: int = 1024,
        files_mb: int = 16,
        processes: int = 1,
        workers: int = 4,
    ) -> None:
        self.tests, self.entry_point, self.prefix, self.partial = tests, entry_point, prefix, partial
        self.limits, self.workers = Limits(timeout_seconds, memory_mb, files_mb, processes), workers
        self.told = ""
        if min(timeout_seconds, memory_mb, files_mb, processes, workers) < 1:
            raise ValueError("timeout_seconds, memory_mb, files_mb, processes and workers are at least 1.")

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self._score, samples))

    def _score(self, sample: Sample) -> float | None:
        row = sample.row or {}
        if not row.get(self.tests):
            return None
        start = "" if self.prefix is None else f"{row[self.prefix]}\n"
        outcome = run_tests(start + code_of(sample.text), self._tests(row), self.limits)
        self._tell(outcome)
        if not outcome.sandbox:
            return None
        share = sum(outcome.passed) / len(outcome.passed) if outcome.ended else 0.0
        return share if self.partial else float(share == 1.0)

    def _tests(self, row: dict) -> list[str]:
        tests = row[self.tests]
        tests = [tests] if isinstance(tests, str) else list(tests)
        if not all(isinstance(test, str) for test in tests):
            raise OstinatoError(f"the column {self.tests} holds no code: a text, or a list of texts.")
        name = row.get(self.entry_point)
        return [f"{test}\ncheck({name})" if name and re.search(r"^def check\(", test, re.M) else test for test in tests]

    def _tell(self, outcome: Outcome) -> None:
        text = STRENGTH[outcome.sandbox]
        if self.told != text:
            self.told = text
            log.log(logging.INFO if outcome.sandbox == "namespaces" else logging.WARNING, "code_tests: %s", text)


def code_of(text: str) -> str:
    """The last fenced block of a text, to its end where it is not closed; the whole text where there is none."""
    blocks: list[list[str]] = []
    fence = ""
    for line in text.splitlines():
        match = FENCE.fullmatch(line)
        if not fence and match:
            fence = match[1]
            blocks.append([])
        elif fence and match and len(match[1]) >= len(fence) and not match[2].strip():
            fence = ""
        elif fence:
            blocks[-1].append(line)
    return "\n".join(blocks[-1]) + "\n" if blocks else text
