"""What two runs do not share, from their records alone: the causes to look for where their numbers part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.core.frozen import read_frozen
from ostinato.core.mistakes import ConfigError
from ostinato.experiment.claims import newest_segment
from ostinato.experiment.code_differences import code_differences
from ostinato.experiment.environment import bits
from ostinato.experiment.reading import read_json, read_or_empty
from ostinato.experiment.row_differences import compare_rows, rows_of
from ostinato.experiment.secrets import leaves

Difference = dict[str, Any]
"""{name, a, b}: a value is absent where a run has none."""
THREADS = ("threads.", "variables.OMP_", "variables.MKL_")
NOT_ASKED = ("experiment.name", "experiment.output_root")
MISSING = object()


def run_differences(a: Path, b: Path, *, patch: bool = False) -> dict[str, Any]:
    """Only what differs, in the order in which causes are worth looking at; then the first step that differs."""
    left, right = metadata_of(a), metadata_of(b)
    before, now = environment_of(a), environment_of(b)
    compared = compare_rows(rows_of(a), rows_of(b))
    return {
        "a": a.name,
        "b": b.name,
        "config": config_differences(a, b),
        "code": code_differences(a, b, patch=patch),
        "data": data_differences(left, right),
        "tokenizer": differing(flat(left.get("tokenizer")), flat(right.get("tokenizer"))),
        "packages": package_differences(before, now),
        "hardware": hardware_differences(before, now),
        "threads": thread_differences(before, now),
        "command": differing({"command": left.get("command")}, {"command": right.get("command")}),
        "seed": differing({"seed": left.get("seed")}, {"seed": right.get("seed")}),
        "rows": {"steps": compared.steps, "evaluations": compared.evaluations},
        "first_difference": compared.first.to_dict() if compared.first else None,
    }


def metadata_of(run: Path) -> dict[str, Any]:
    """`metadata.json`; RefusedError if it is damaged."""
    try:
        return read_json(run / "metadata.json")
    except (OSError, ValueError) as error:
        raise RefusedError(f"{run / 'metadata.json'} cannot be read: {error}") from None


def frozen_config(run: Path) -> dict[str, Any]:
    """The plain values of a run's config, {} of an imported model; RefusedError if it is not what was frozen."""
    if metadata_of(run).get("imported"):
        return {}
    try:
        return read_frozen(run / "config.yaml")
    except (OSError, ValueError, ConfigError) as error:
        raise RefusedError(f"{run / 'config.yaml'} cannot be used: {error}") from None


def environment_of(run: Path) -> dict[str, Any]:
    """The environment of a run's last segment; {} if it is not recorded."""
    name = newest_segment(run)[1].get("environment_file") or "environment.json"
    return read_or_empty(run / "provenance" / name)


def config_differences(a: Path, b: Path) -> list[Difference]:
    """Options that differ, with where each value comes from (`a_origin`, `b_origin`: `file:line`, or a kind)."""
    values = [dict(leaves(frozen_config(run))) for run in (a, b)]
    chains = [read_or_empty(run / "provenance" / "config_origins.json").get("origins", {}) for run in (a, b)]
    found = differing(*values)
    for entry in found:
        for side, chain in zip(("a", "b"), chains, strict=True):
            if side in entry:
                entry[f"{side}_origin"] = origin_text(chain.get(entry["name"].partition("[")[0]))
    return [entry for entry in found if entry["name"] not in NOT_ASKED]


def origin_text(chain: Any) -> str | None:
    """The last link of a chain: `exp001.yaml:3`, `cli`, `default`; None if it is not known."""
    if not isinstance(chain, list) or not chain or not isinstance(chain[-1], dict):
        return None
    last = chain[-1]
    if last.get("kind") in ("file", None) and last.get("file"):
        return f"{last['file']}:{last.get('line')}"
    return "-o" if last.get("kind") == "cli" else last.get("kind")


def data_differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Whatever decides what is trained on; `train.content` is the fingerprint of a source's prepared samples."""
    a, b = ((side.get("data") or {}).get("identity") or {} for side in (left, right))
    sources = [{"sources": identity.get("sources", {})} for identity in (a, b)]
    rest = [{n: v for n, v in identity.items() if n not in ("sources", "tokenizer")} for identity in (a, b)]
    return differing(flat(sources[0]), flat(sources[1])) + differing(flat(rest[0]), flat(rest[1]))


def package_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Python and packages: other versions, and those that only one has."""
    python = differing({"python": before.get("python")}, {"python": now.get("python")})
    return python + differing(before.get("packages", {}), now.get("packages", {}))


def hardware_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Processor, devices, drivers, torch's build, ranks and variables that can change bits; not packages or threads."""
    return [e for e in bit_differences(before, now) if not e["name"].startswith(THREADS)]


def thread_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Numbers of threads, and the variables that set them."""
    return [e for e in bit_differences(before, now) if e["name"].startswith(THREADS)]


def bit_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What can change bits, without packages and python."""
    left, right = (
        {name: value for name, value in bits(side).items() if name != "python" and not name.startswith("packages.")}
        for side in (before, now)
    )
    return differing(left, right)


def flat(value: Any) -> dict[str, Any]:
    """Nested values by dotted name."""
    return dict(leaves(value)) if value else {}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """The names whose values differ, those of `a` first: [{name, a, b}]."""
    names = [name for name in (*a, *(n for n in b if n not in a)) if a.get(name, MISSING) != b.get(name, MISSING)]
    return [{"name": n} | ({"a": a[n]} if n in a else {}) | ({"b": b[n]} if n in b else {}) for n in names]
