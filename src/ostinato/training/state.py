"""What of a trainer goes into a checkpoint, and back: tensors by name, and exact integers, floats and strings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ostinato.core.errors import RefusedError
from ostinato.distributed.shards import laid_out_like, whole
from ostinato.training.base_weights import refuse_other_base
from ostinato.training.checkpoint import host_copy, load_into, read_tensors
from ostinato.training.optimizers import named_parameters

if TYPE_CHECKING:
    from ostinato.training.trainer import BaseTrainer


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, tied ones once."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    persistent = model.state_dict(keep_vars=True)
    return weights | {name: buffer for name, buffer in model.named_buffers() if name in persistent}


def stored_weights(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: all its weights, or its adapter's."""
    adapter: Any = getattr(model, "adapter", None)
    return named_weights(model) if adapter is None else adapter.stored(model)


def bases(trainer: BaseTrainer) -> dict[str, Any]:
    """Where the frozen weights of adapted models are from, with their hashes: they are named, not stored."""
    models = trainer.parts.models.items()
    return {label: model.adapter.base for label, model in models if hasattr(model, "adapter")}  # type: ignore[union-attr]


def collect(trainer: BaseTrainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors as host copies, plain state) of model, optimizer, algorithm, hooks and plan.

    Under a strategy that shards, all ranks take part, tensor by tensor; those that do not write keep none.
    """
    tensors = {f"model/{name}": weight for name, weight in stored_weights(trainer.model).items()}
    plain: dict[str, Any] = {"bases": found} if (found := bases(trainer)) else {}
    store(optimizer_state(trainer.optimizer), "optimizer", tensors, plain.setdefault("optimizer", {}))
    store(trainer.state(), "algorithm", tensors, plain.setdefault("algorithm", {}))
    for label, model in beside(trainer).items():
        store(stored_weights(model), f"algorithm/models/{label}", tensors, {})
    for hook in trainer.stateful():
        store(
            hook.state(),
            f"algorithm/hooks/{hook.name}",
            tensors,
            plain.setdefault("hooks", {}).setdefault(hook.name, {}),
        )
    plain["plan"] = {"step": trainer.plan_step, "skips": [list(skip) for skip in trainer.plan_skips]}
    if trainer.strategy.is_main:
        return {name: host_copy(tensor) for name, tensor in tensors.items()}, plain
    for tensor in tensors.values():
        whole(tensor)
    return {}, plain


def restore(trainer: BaseTrainer, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Put a verified checkpoint into a trainer that was built from the same config."""
    state = manifest["state"]
    for label, base in bases(trainer).items():
        refuse_other_base(state.get("bases", {}).get(label, {}), base, str(folder))
    load_into(stored_weights(trainer.model), read_tensors(folder, manifest, "model/"), str(folder))
    load_optimizer(trainer.optimizer, read_tensors(folder, manifest, "optimizer/"), state.get("optimizer", {}))
    rest = read_tensors(folder, manifest, "algorithm/")
    own = rest.without([name for name in rest if name.startswith(("hooks/", "models/"))])
    for label, model in beside(trainer).items():
        load_into(stored_weights(model), read_tensors(folder, manifest, f"algorithm/models/{label}/"), str(folder))
    trainer.load_state({**state["algorithm"], **own})
    for hook in trainer.stateful():
        hook.load_state({**state.get("hooks", {}).get(hook.name, {}), **rest.below(f"hooks/{hook.name}/")})
    trainer.plan_skips = [(int(first), int(count)) for first, count in state["plan"]["skips"]]
    trainer.global_step = manifest["step"]
    trainer.plan_step = state["plan"].get("step", manifest["step"])


def beside(trainer: BaseTrainer) -> dict[str, nn.Module]:
    """The models that are trained besides the one that the run is for."""
    return {label: model for label, model in trainer.parts.models.items() if label != "model"}


def store(values: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Sort a flat state into tensors (under `prefix/name`) and plain values."""
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}/{name}"] = value
        else:
            plain[name] = value


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State by parameter name and field, e.g. {"model.norm.weight/exp_avg": ...}."""
    return {
        f"{name}/{field}": value
        for name, parameter in named_parameters(optimizer)
        for field, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """The reverse of `optimizer_state`, placed and typed by the optimizer itself."""
    parameters = dict(named_parameters(optimizer))
    state: dict[str, dict[str, Any]] = {}
    for source in (tensors, plain):
        for path, value in source.items():
            name, _, field = path.rpartition("/")
            if isinstance(value, Tensor) and name in parameters:
                value = laid_out_like(value, parameters[name])
            state.setdefault(name, {})[field] = value
    if unknown := sorted(set(state) - set(parameters)):
        raise RefusedError(f"the checkpoint holds optimizer state of unknown parameters: {', '.join(unknown[:5])}")
    whole = optimizer.state_dict()
    whole["state"] = {index: state[name] for index, name in enumerate(parameters) if name in state}
    optimizer.load_state_dict(whole)
