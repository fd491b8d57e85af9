"""Whether this environment is the recorded one, what mends it, and the variables under which a rerun starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ostinato.experiment.differences import Difference, bit_differences, package_differences
from ostinato.experiment.environment import BIT_VARIABLES

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")
FOLLOWS = ("variables.", "threads.intra", "optimizer", "numerics", "world")
"""Set for the rerun as recorded, or decided by its config."""


def environment_drift(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What a rerun could not be given: [{name, a (recorded), b (here), kind: packages, hardware or threads}].

    Packages that came later do not count, nor does an editable install, whose code is the snapshot's.
    """
    packages = [e for e in package_differences(before, now) if "a" in e and " editable" not in str(e["a"])]
    others = [e for e in bit_differences(before, now) if not e["name"].startswith(FOLLOWS)]
    found = [{**entry, "kind": "packages"} for entry in packages]
    return found + [{**e, "kind": "threads" if e["name"].startswith("threads") else "hardware"} for e in others]


def install_line(drift: Sequence[Difference]) -> str | None:
    """The command that installs the recorded versions; None if no package differs."""
    names = [e["name"] for e in drift if e["kind"] == "packages" and e["name"] != "python"]
    versions = {e["name"]: str(e["a"]).partition(" ")[0] for e in drift}
    return "pip install " + " ".join(f"{name}=={versions[name]}" for name in names) if names else None


def rerun_variables(before: Mapping[str, Any], threads: int | None, python_path: Sequence[str]) -> dict[str, str]:
    """This process's variables, with those that can change bits as recorded. `threads`: what OMP_NUM_THREADS shall be,
    None where the config says it."""
    found = {
        n: v for n, v in os.environ.items() if not n.startswith((*BIT_VARIABLES, "TORCHELASTIC_")) and n not in RANKS
    }
    found |= {n: v for n, v in before.get("variables", {}).items() if n.startswith(BIT_VARIABLES)}
    if threads is not None:
        found["OMP_NUM_THREADS"] = str(threads)
    return found | {"PYTHONPATH": os.pathsep.join(python_path), "PYTHONDONTWRITEBYTECODE": "1"}
