"""The live pages: all runs in a list, and the report of some of them with an address for what is new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ostinato.experiment.listing import summaries
from ostinato.experiment.report import asset, environment, parts, policy, program, render, safe, script_json
from ostinato.experiment.report_data import drawn_part, report_data

REPORT_SECONDS = 3  # between two questions of an open page
LIST_SECONDS = 5
GROUPINGS = [("none", "nothing"), ("algorithm", "algorithm"), ("state", "state"), ("seeds", "config (seeds together)")]
Link = Callable[..., str]


def index(root: Path, group: str, link: Link, token: str) -> str:
    """The list of all runs below a root, newest first."""
    style, script = asset("report.css"), program("index.js")
    return (
        environment()
        .get_template("index.html")
        .render(
            **listed(root, group),
            root=str(root),
            group=group,
            groupings=GROUPINGS,
            address=link,
            token=token,
            style=safe(style),
            script=safe(script),
            policy=safe(policy(style, script, "connect-src 'self'", "form-action 'self'")),
            live=script_json({"address": link("runs.json", group=group), "seconds": LIST_SECONDS}),
        )
    )


def run_list(root: Path, group: str, link: Link) -> str:
    """Its table alone."""
    return environment().get_template("sections/list.html").render(**listed(root, group), address=link)


def listed(root: Path, group: str) -> dict[str, Any]:
    """Runs, and groups of them: (title or None, runs)."""
    runs = summaries(root)[::-1]
    if group not in ("algorithm", "state", "seeds"):
        return {"runs": runs, "groups": [(None, runs)]}
    members: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        key = (run["hashes"].get("group") or run["name"]) if group == "seeds" else run[group]
        members.setdefault(str(key or "not recorded"), []).append(run)
    titled = list(members.items())
    if group == "seeds":
        titled = [(min(run["name"] for run in found), found) for _, found in titled]
    return {"runs": runs, "groups": sorted(titled, key=lambda pair: pair[0])}


def live(folders: Sequence[Path], link: Link) -> str:
    """The report of runs, which asks for news."""
    address = link("report.json", run=[folder.name for folder in folders])
    return render(report_data(folders), live={"address": address, "seconds": REPORT_SECONDS}, home=link(""))


def news(folders: Sequence[Path]) -> dict[str, Any]:
    """What a live page needs to show a run as it is now."""
    data = report_data(folders)
    return {"version": 1, "made": data["made"], "drawn": drawn_part(data), "parts": parts(data)}
