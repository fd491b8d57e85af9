"""What a check of `ostinato doctor` found: fine, a risk, or something that will stop or spoil a run."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Answer(NamedTuple):
    """One line of the doctor's; `remedy` is empty where there is nothing to do."""

    check: str
    state: Literal["ok", "warning", "problem"]
    text: str
    remedy: str = ""
