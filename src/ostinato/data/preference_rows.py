"""What rows of preference data say, as rows that fine-tuning knows: a pair is two, a labelled response is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ostinato.core.errors import UserError
from ostinato.data.encoding import Encoded, TrainedTokens
from ostinato.data.formats import DataOptions
from ostinato.data.row_reading import EmptyResponse, Parts, Reading
from ostinato.data.rows import RowError
from ostinato.data.source import Row

EQUAL = "chosen and rejected are equal"
SHARED = ("system", "tools")


def pair_parts(row: Row) -> Parts:
    """`prompt`, `chosen`, `rejected` (text or messages), or chosen and rejected as whole conversations with a common
    beginning; `margin` (0) is by how much the chosen one is better."""
    if not ("chosen" in row and "rejected" in row):
        raise RowError(
            f"the keys {', '.join(row) or 'none'} are no pair (prompt, chosen, rejected); "
            "name them with columns, e.g. `columns: {prompt: question, chosen: better, rejected: worse}`"
        )
    prompt, answers = _prompt_and_answers(row)
    shared = {key: row[key] for key in SHARED if key in row} | {"prompt": prompt}
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        _check_says_something(answer, name)
    margin = row.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float):
        raise RowError(f"margin is {json.dumps(margin, default=str)[:60]}, not a number")
    rows = [{**shared, "response": answer} for answer in answers]
    return Parts(rows, "pairs of chosen and rejected", float(margin), [EQUAL] if answers[0] == answers[1] else [])


def labelled_parts(row: Row) -> Parts:
    """`prompt`, `response` (or `completion`) and `label`: true where the response is desirable."""
    answer = next((key for key in ("response", "completion") if key in row), None)
    if answer is None or "prompt" not in row or "label" not in row:
        raise RowError(
            f"the keys {', '.join(row) or 'none'} are no labelled response (prompt, response, label); "
            "name them with columns, e.g. `columns: {prompt: question, response: answer, label: is_good}`"
        )
    label = row["label"]
    if label not in (True, False):  # 1 and 0 too
        raise RowError(f"label is {json.dumps(label, default=str)[:60]}, not true or false")
    _check_says_something(row[answer], answer)
    unlabelled = {key: value for key, value in row.items() if key != "label"}
    return Parts([unlabelled], "prompt, response and label", float(label))


def check_one_prompt(documents: Sequence[Encoded]) -> None:
    """Raise RowError where the tokens before the first trained one are not the same in all documents."""
    first, *others = (prompt_of(document) for document in documents)
    if not all(np.array_equal(first, other) for other in others):
        raise RowError(
            "chosen and rejected do not begin alike: the prompt's last token is another, since it also holds the "
            "beginning of a response. Remove the white space that the responses begin with."
        )


PAIRS = Reading("pairs", pair_parts, check_one_prompt)
LABELLED = Reading("labelled", labelled_parts)


def check_options(options: DataOptions) -> None:
    """Prompts are never trained on: they would count as part of what is preferred."""
    if options.train_on == "all":
        raise UserError("data.train_on: all trains on prompts too, which preferences do not judge. Set assistant.")


def prompt_of(document: TrainedTokens) -> np.ndarray:
    """The ids before the first trained token."""
    return document.ids[: int(np.argmax(document.trained))]


def _prompt_and_answers(row: Row) -> tuple[Any, tuple[Any, Any]]:
    chosen, rejected = row["chosen"], row["rejected"]
    whole = isinstance(chosen, list) and isinstance(rejected, list)
    if "prompt" in row:
        prompt = row["prompt"]
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        size = len(asked) if isinstance(asked, list) else 0
        if whole and size and chosen[:size] == asked == rejected[:size]:  # the answers repeat it
            return prompt, (chosen[size:], rejected[size:])
        return prompt, (chosen, rejected)
    if not whole:
        raise RowError("without a prompt, chosen and rejected are whole conversations: lists of messages")
    common = 0
    while common < min(len(chosen), len(rejected)) - 1 and chosen[common] == rejected[common]:
        common += 1
    if not common:
        raise RowError("chosen and rejected have no message in common to be the prompt")
    return chosen[:common], (chosen[common:], rejected[common:])


def _check_says_something(answer: Any, name: str) -> None:
    last = answer[-1] if isinstance(answer, list) and answer else answer
    said = last.get("content") or last.get("value") or last.get("tool_calls") if isinstance(last, dict) else last
    if not said or (isinstance(said, str) and not said.strip()):
        raise EmptyResponse(f"{name} is empty")
