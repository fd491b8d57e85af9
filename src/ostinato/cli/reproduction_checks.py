"""What must hold before a rerun means anything: intact files, the same data and parent, a known environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError, UserError
from ostinato.core.manifest import Damaged, NewerFormat, read_checkpoint
from ostinato.experiment.differences import data_differences, differing, flat
from ostinato.experiment.environment import collect
from ostinato.experiment.reading import state_of
from ostinato.experiment.secrets import leaves
from ostinato.experiment.trash import LIVE
from ostinato.experiment.verify import verify_run


def check_integrity(run: Path) -> None:
    """UserError for a run that lasts, RefusedError for one that is damaged."""
    if (state := state_of(run)) in LIVE:
        raise UserError(f"{run.name} is {state}: wait for its end, or stop it.")
    if problems := verify_run(run):
        lines = [f"  {problem['path']}: {problem['problem']}" for problem in problems]
        raise RefusedError(f"{run.name} is damaged:\n" + "\n".join(lines))


def check_parent(root: Path, named: str, parent: Mapping[str, Any]) -> None:
    """RefusedError if the checkpoint that the run began from is gone or another one."""
    if not named.startswith("run:") or parent.get("step") is None:
        return
    folder = root / named.removeprefix("run:").partition("@")[0] / "checkpoints" / f"step_{parent['step']:08d}"
    try:
        same = read_checkpoint(folder)["xxh3"] == parent["checkpoint"]
    except (Damaged, NewerFormat, OSError) as problem:
        raise RefusedError(f"model.init_from: {named}: {folder}: {problem}") from None
    if not same:
        raise RefusedError(f"model.init_from: {named}: {folder} is not the checkpoint that the run began from.")


def check_birth(run: Path, before: Mapping[str, Any], now: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """RefusedError if the rerun reads other data, another tokenizer, or began from other weights, naming the files."""
    sides = [{"tokenizer": flat(side.get("tokenizer"))} for side in (before, now)]
    found = data_differences(before, now) + differing(flat(sides[0]), flat(sides[1]))
    parents = [flat({"init_from": (side.get("lineage") or {}).get("init_from")}) for side in (before, now)]
    found += [entry for entry in differing(*parents) if not entry["name"].endswith(".folder")]
    if found:
        lines = [f"  {entry['name']}: {entry.get('a')} then, {entry.get('b')} now" for entry in found]
        paths = [f"  {key}: {value}" for key, value in leaves(config) if value and key.endswith(".path")]
        raise RefusedError(
            f"{run.name} began with other data:\n"
            + "\n".join(lines)
            + ("\nIt is read from:\n" if paths else "")
            + "\n".join(paths)
        )


def present_environment(config: Mapping[str, Any], metadata: Mapping[str, Any], world: Mapping[str, Any]) -> dict:
    """This environment, with what torch says of itself on the device that the config asks for."""
    from ostinato.distributed.strategy import choose_device
    from ostinato.training.numerics import facts, prepare_environment

    prepare_environment()
    try:
        device = choose_device(config["training"]["device"])
    except UserError:  # the missing device is a difference like others
        device = choose_device("cpu")
    return collect(facts(device, str(metadata.get("numerics")), dict(world)))
