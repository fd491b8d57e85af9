"""Another model judges the response: one asked over HTTP, by the interface that most servers of models speak."""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ostinato.core.errors import OstinatoError
from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample
from ostinato.rewards.reward import gold_answers

log = logging.getLogger(__name__)
TEMPLATE = """Rate how good a response to a prompt is, from 0 (useless) to 10 (perfect).

[Prompt]
{prompt}

[Response]
{response}

Reply with one line: "Score: N"."""
PLACEHOLDER = re.compile(r"\{(prompt|response|answer)\}")
LONGEST_WAIT = 60.0  # seconds between two tries
PASSING = {408, 409, 425, 429}  # besides 5xx: statuses that another try may change
OURS = {401, 403, 404, 405}  # statuses that no response is to blame for


@REWARDS.register("judge")
class Judge:
    """The number in the reply of an OpenAI-compatible chat endpoint; None where all tries fail.

    `url` is its base (`http://localhost:8000/v1`), `model` the name it goes by there. `template` is the question, with
    `{prompt}`, `{response}` and `{answer}` filled in: the row's columns `prompt` (or messages) and `answer`. The score
    is the last match of `pattern`, its first group if it has one. `retries` tries follow a failed one, after
    `backoff_seconds`, then twice that and so on. `api_key_variable` names the environment variable that holds the key,
    `parameters` are sent along (null: temperature 0). `workers` questions are asked at once. A key or address that the
    server refuses stops the run.
    """

    shaping = False

    def __init__(
        self,
        context: RewardContext,
        *,
        url: str,
        model: str,
        template: str | None = None,
        pattern: str = r"[Ss]core\W*?(-?\d+(?:\.\d+)?)",
        prompt: str = "prompt",
        answer: str = "answer",
        api_key_variable: str | None = None,
        parameters: dict[str, Any] | None = None,
        timeout_seconds: float = 60.0,
        retries: int = 3,
        backoff_seconds: float = 1.0,
        workers: int = 8,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url: {url!r} begins with neither http:// nor https://.")
        if api_key_variable is not None and not os.environ.get(api_key_variable):
            raise ValueError(f"api_key_variable: the environment variable {api_key_variable} is not set.")
        self.url, self.model = f"{url.rstrip('/').removesuffix('/chat/completions')}/chat/completions", model
        try:
            self.template, self.pattern = template or TEMPLATE, re.compile(pattern)
        except re.error as error:
            raise ValueError(f"pattern: {pattern!r} is no regular expression: {error}.") from None
        self.prompt, self.answer, self.api_key_variable = prompt, answer, api_key_variable
        self.parameters = {"temperature": 0} if parameters is None else parameters
        self.timeout_seconds, self.retries, self.backoff_seconds = timeout_seconds, retries, backoff_seconds
        self.workers = workers

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        with ThreadPoolExecutor(self.workers) as pool:
            answers = list(pool.map(self._score, samples))
        failed = [answer for answer in answers if isinstance(answer, str)]
        if failed:
            log.warning("judge: no score for %d of %d responses; one of them: %s", len(failed), len(samples), failed[0])
        return [None if isinstance(answer, str) else answer for answer in answers]

    def _score(self, sample: Sample) -> float | str:
        """The score, or why there is none."""
        question, reason = self._question(sample), ""
        for trial in range(self.retries + 1):
            try:
                if (score := self._number(self._reply(question))) is not None:
                    return score
                reason, wait = "its reply holds no score", 0.0
            except urllib.error.HTTPError as error:
                reason, wait = f"HTTP {error.code}", _seconds(error.headers.get("Retry-After"))
                error.close()
                if error.code in OURS:
                    raise OstinatoError(f"{self.url} answers HTTP {error.code} ({error.reason}).") from None
                if error.code < 500 and error.code not in PASSING:
                    break
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
                reason, wait = f"{type(error).__name__}: {error}", 0.0
            if trial < self.retries:
                time.sleep(waiting(trial, self.backoff_seconds, wait))
        return reason

    def _question(self, sample: Sample) -> str:
        row = sample.row or {}
        golds = gold_answers(sample, self.answer)
        filled = {"response": sample.text, "answer": "" if not golds else str(golds[0])}
        if "{prompt}" in self.template:
            filled["prompt"] = prompt_text(row, self.prompt)
        return PLACEHOLDER.sub(lambda match: filled[match[1]], self.template)

    def _reply(self, question: str) -> str:
        body = {"model": self.model, "messages": [{"role": "user", "content": question}], **self.parameters}
        headers = {"Content-Type": "application/json"}
        if self.api_key_variable is not None:
            headers["Authorization"] = f"Bearer {os.environ[self.api_key_variable]}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout_seconds) as reply:
            return json.load(reply)["choices"][0]["message"]["content"]

    def _number(self, reply: str) -> float | None:
        found = [match[1] if self.pattern.groups else match[0] for match in self.pattern.finditer(reply)]
        number = float(found[-1]) if found else math.nan
        return number if math.isfinite(number) else None


def waiting(trial: int, backoff_seconds: float, told_seconds: float = 0.0) -> float:
    """Seconds between try number `trial` (from 0) and the next: doubling, no less than the server says."""
    return min(LONGEST_WAIT, max(told_seconds, backoff_seconds * 2**trial))


def prompt_text(row: dict[str, Any], column: str) -> str:
    """The prompt of a row as text: a column, which may hold messages, or its messages up to the last answer."""
    value = row.get(column, row.get("messages"))
    if isinstance(value, list):
        turns = value[:-1] if column not in row and value and value[-1].get("role") == "assistant" else value
        return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    if not isinstance(value, str):
        raise OstinatoError(f"the row has no prompt to show the judge: no column {column}. Name one with `prompt`.")
    return value


def _seconds(header: str | None) -> float:
    return float(header) if header and header.strip().isdigit() else 0.0
