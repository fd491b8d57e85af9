"""Weights from elsewhere: `model.init_from`, and the model of a finished run. Weights only, verified before use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ostinato.core import manifest as manifests
from ostinato.core.config import Component, Config
from ostinato.core.errors import RefusedError, UserError
from ostinato.core.inputs import ModelInputs
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_files import has_tokenizer
from ostinato.data.tokenizer_kinds import as_asked
from ostinato.training.checkpoint import newest_good
from ostinato.training.foreign import contents, foreign_model, read_config
from ostinato.training.foreign_weights import filled, load_pieces
from ostinato.training.hub_model import fetched
from ostinato.training.initialise import build_model
from ostinato.training.stored_tensors import StoredTensors
from ostinato.training.vocabulary import growth

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where weights came from: a folder with config.json and safetensors, and what a run's lineage records of it."""

    folder: Path
    lineage: dict[str, Any]

    @property
    def model(self) -> tuple[Component, ModelInputs]:
        """The model's node and inputs as it was trained."""
        config = read_config(self.folder)
        if "ostinato" not in config:
            return foreign_model(self.folder, config)
        own = config["ostinato"]
        return Component(own["name"], own["options"]), ModelInputs(**own["inputs"])

    def pin(self, child: str) -> None:
        """Keep the checkpoint that run `child` started from: its retention never deletes a pinned one."""
        if self.lineage.get("id") is None:
            return
        step = self.folder.parent
        try:
            (step.parent / "pins").mkdir(exist_ok=True)
            manifests.write_json(step.parent / "pins" / f"{child}-{step.name}.json", {"version": 1, "run": child})
        except OSError as error:
            log.warning("%s cannot be pinned: %s. Its run may delete it.", step, error)

    def tokenizer(self) -> Tokenizer:
        if not has_tokenizer(self.folder):
            raise UserError(f"{self.folder}: no tokenizer here; this is no model of text.")
        return Tokenizer.load(self.folder)

    def build(self, device: torch.device | str) -> nn.Module:
        """The model with its weights, ready to evaluate: frozen."""
        model = build_model(*self.model, 0, torch.device(device), self.fills)
        self.load_into(model)
        return model.eval().requires_grad_(False)

    def fills(self, model: nn.Module) -> set[str]:
        """The weights that `load_into` will write: they need not be drawn before. RefusedError as there."""
        return filled(model, StoredTensors(self.folder), read_config(self.folder))

    def load_into(self, model: nn.Module) -> None:
        """Fill a model's weights, names and shapes checked; each tensor is read straight to its place."""
        load_pieces(model, StoredTensors(self.folder), read_config(self.folder), growth(self, model))


def find_weights(
    init_from: str, root: Path, recorded_step: int | None = None, *, key: str = "model.init_from"
) -> Origin:
    """`run:NAME[@step]` below `root`, or a folder: a run's, a checkpoint's, or one with config.json and safetensors.

    Of a run without @step it is the newest good checkpoint, or the one of `recorded_step`. `key` of the config says so.
    """
    if init_from.startswith("hub:"):
        folder, lineage = fetched(init_from, key)
        return origin_at(folder, lineage, root)
    name, _, step = (
        init_from.removeprefix("run:").partition("@") if init_from.startswith("run:") else (init_from, "", "")
    )
    folder = root / name if init_from.startswith("run:") else Path(init_from)
    if not folder.is_dir():
        raise UserError(f"{key}: {init_from}: no such folder: {folder}.")
    if (folder / "checkpoints").is_dir():
        return from_run(folder, int(step) if step else recorded_step)
    if (folder / "manifest.json").is_file():
        manifests.verify_files(folder, manifests.read_checkpoint(folder))
        return origin_at(folder / "model", {"folder": str(folder)}, root)
    return origin_at(folder, {"folder": str(folder), "checkpoint": contents(folder)}, root)


def origin_at(folder: Path, lineage: dict[str, Any], root: Path) -> Origin:
    """The origin of a folder, with weights of its own or with an adapter on those of another."""
    if not (folder / "adapter_config.json").is_file():
        return Origin(folder, lineage)
    from ostinato.training.adapters import AdapterOrigin  # which stands on this file

    return AdapterOrigin(folder, lineage, root)


def find_origin(config: Config, began_from: Mapping[str, Any] | None = None) -> Origin | None:
    """Where the weights to start from are; for a resumed run where they were, even if newer ones came since."""
    if config.model.init_from is None:
        return None
    recorded = began_from or {}
    name = recorded.get("hub") or config.model.init_from  # the commit that it was, not the branch as it is now
    origin = find_weights(name, config.experiment.output_root, recorded.get("step"))
    if recorded.get("checkpoint") not in (None, origin.lineage.get("checkpoint")):
        raise RefusedError(f"model.init_from: {config.model.init_from} is no longer what this run began from.")
    return origin


def inherited_tokenizer(config: Config, origin: Origin | None) -> Any:
    """The tokenizer of `model.init_from`, with the tokens and template that the config adds to it, unless the config
    names a path of its own or there is none."""
    if config.tokenizer.path is not None:
        return None
    while origin is not None and not has_tokenizer(origin.folder):
        origin = getattr(origin, "base", None)  # of an adapter
    return None if origin is None else as_asked(origin.tokenizer(), config.tokenizer)


def from_run(run: Path, step: int | None) -> Origin:
    """A run's checkpoint: the newest good one, or the one of `step`. Nothing of the run is changed."""
    checkpoints = run / "checkpoints"
    if step is None:
        found = newest_good(checkpoints, None, quarantine=None)
        if found is None:
            raise UserError(f"{run} has no checkpoint yet.")
        folder, manifest = found
    else:
        folder = checkpoints / f"step_{step:08d}"
        if not folder.is_dir():
            steps = ", ".join(str(int(f.name[5:])) for f in sorted(checkpoints.glob("step_????????"))) or "none"
            raise UserError(f"{run} has no checkpoint of step {step}; there are: {steps}.")
        try:
            manifest = manifests.read_checkpoint(folder)
            manifests.verify_files(folder, manifest)
        except manifests.Damaged as problem:
            raise RefusedError(f"{folder}: {problem}") from None
    run_facts = manifest.get("run", {})
    lineage = {
        "run": run_facts.get("name"),
        "id": run_facts.get("id"),
        "step": manifest["step"],
        "checkpoint": manifest["xxh3"],
    }
    return origin_at(folder / "model", lineage, run.parent)


def load_run_model(run: Path, step: int | None = None, device: str = "cpu") -> tuple[nn.Module, Tokenizer]:
    """The model and tokenizer of a run (or of any folder that `find_weights` takes), ready to evaluate."""
    origin = from_run(run, step) if (run / "checkpoints").is_dir() else find_weights(str(run), run.parent)
    return origin.build(device), origin.tokenizer()


def load_by_name(root: Path, device: str) -> Callable[[str], tuple[nn.Module, Tokenizer]]:
    """`load("run:NAME@step")` or `load(folder)`: model and tokenizer, for rewards that are models."""

    def load(name: str) -> tuple[nn.Module, Tokenizer]:
        origin = find_weights(name, root)
        return origin.build(device), origin.tokenizer()

    return load
