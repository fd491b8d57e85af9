"""One HTML file that shows runs: it holds its data, styles and script, and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError, UserError
from ostinato.experiment.metrics import encode
from ostinato.experiment.report_data import drawn_part, report_data
from ostinato.experiment.report_facts import fact_rows
from ostinato.experiment.report_text import FILTERS

SECTIONS = [
    ("evaluations", "Evaluations"),
    ("options", "Options"),
    ("samples", "Samples"),
    ("facts", "Run facts"),
    ("metrics", "All metrics"),
]
HEADLINE_METRICS = 3
BEGINNING = b"<!doctype html>\n"


def write_report(folders: Sequence[Path], path: Path | None = None, root: Path | None = None) -> Path:
    """Write the report of runs and return its path, by default `<run>/outputs/report.html` or, of several,
    `<root>/report.html`. Raises RefusedError for a `path` that holds something else than a page, UserError where it
    cannot be written."""
    target = path or default_path(folders, root)
    if path is not None and (target.is_dir() or not target.parent.is_dir()):
        problem = "is a folder" if target.is_dir() else "lies in no folder that exists"
        raise UserError(f"-o {path}: {problem}. Give the path of a file: -o report.html")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.read_bytes()[: len(BEGINNING)].lower() != BEGINNING:
            raise RefusedError(f"{target} exists and is no HTML page; it stays as it is. Choose another path.")
        page = render(report_data(folders)).encode("utf-8", errors="backslashreplace")
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        temporary.write_bytes(page)
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}. Choose another path: -o FILE") from error
    return target


def default_path(folders: Sequence[Path], root: Path | None) -> Path:
    """Where a report lies if nothing else is said."""
    if len(set(folders)) == 1:
        return folders[0] / "outputs" / "report.html"
    return (root or folders[-1].parent) / "report.html"


def render(data: dict[str, Any], *, live: dict[str, Any] | None = None, home: str | None = None) -> str:
    """The page. `live`: {address, seconds} where its script asks for newer data; `home`: where all runs are listed."""
    style, script = asset("report.css"), program("plot.js", "report.js")
    return (
        environment()
        .get_template("report.html")
        .render(
            **context(data),
            style=safe(style),
            script=safe(script),
            policy=safe(policy(style, script, *(["connect-src 'self'"] if live else []))),
            drawn=script_json(drawn_part(data)),
            live=script_json(live) if live else None,
            home=home,
        )
    )


def parts(data: dict[str, Any]) -> dict[str, str]:
    """The page's tables, each as HTML, for a live page."""
    names = ["runs", *(name for name, _ in SECTIONS)]
    return {name: environment().get_template(f"sections/{name}.html").render(**context(data)) for name in names}


def context(data: dict[str, Any]) -> dict[str, Any]:
    """What the templates need."""
    last = [run["facts"]["last"] for run in data["runs"]]
    headline = [chart["metric"] for chart in data["charts"] if any(chart["metric"] in values for values in last)]
    facts = fact_rows([run["facts"] for run in data["runs"]])
    return {"data": data, "headline": headline[:HEADLINE_METRICS], "facts": facts, "sections": SECTIONS}


@cache
def environment() -> Any:
    """Jinja2 over the page's own files, escaping every value; what a damaged record lacks is nothing."""
    from jinja2 import ChainableUndefined, Environment, PackageLoader

    loader = PackageLoader("ostinato.experiment", "page")
    made = Environment(loader=loader, autoescape=True, undefined=ChainableUndefined, trim_blocks=True)
    made.filters.update(FILTERS)
    return made


@cache
def asset(name: str) -> str:
    """One of the page's files."""
    return files("ostinato.experiment").joinpath("page", name).read_text(encoding="utf-8")


def program(*names: str) -> str:
    """Scripts as one, with no name that is seen outside."""
    return '"use strict";\n(() => {\n' + "\n".join(map(asset, names)) + "})();\n"


def policy(style: str, script: str, *more: str) -> str:
    """A Content-Security-Policy that allows this very style and script, by their hashes, and nothing else."""
    rules = [
        "default-src 'none'",
        f"style-src '{_digest(style)}'",
        f"script-src '{_digest(script)}'",
        "base-uri 'none'",
        *(more or ["form-action 'none'"]),
    ]
    return "; ".join(rules)


def script_json(value: Any) -> Any:
    """JSON that can stand within a script element: nothing in it ends the element or a line."""
    text = encode(value).decode("utf-8", errors="backslashreplace").rstrip("\n")
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return safe(text)


def safe(text: str) -> Any:
    """Text that is HTML already: our own files, or escaped."""
    from markupsafe import Markup

    return Markup(text)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
