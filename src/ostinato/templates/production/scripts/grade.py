"""Grade what `ostinato generate --prompts` wrote: which share of its texts is the row's answer. Exit 1: too few."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def wrong(rows: list[dict]) -> list[dict]:
    """The rows that are not right."""
    return [row for row in rows if row["text"].strip() != row["answer"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=Path, help="JSON Lines with `text` and `answer`")
    parser.add_argument("--at-least", type=float, default=1.0, metavar="SHARE")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.answers.read_text("utf-8").splitlines()]
    bad = wrong(rows)
    for row in bad[:5]:
        print(f"wrong: {row['prompt']!r} -> {row['text']!r}, not {row['answer']!r}")
    share = 1 - len(bad) / len(rows) if rows else 0.0
    print(f"{len(rows) - len(bad)} of {len(rows)} right ({share:.1%}), {options.at_least:.1%} needed")
    return 0 if share >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
