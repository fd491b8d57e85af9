"""Optimizers by name. Each is built as `name(groups, learning_rate, implementation, **options)`.

A group is `{"params": [...], "names": [...], "role": "matrix" | "other"}`: weight decay touches the role "matrix" alone
(two dimensions or more), never biases and norms. The trainer calls `set_learning_rate` before every update; a group
whose rate is not the common one says so by its key `lr_scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Muon, Optimizer

from ostinato.core.errors import UserError
from ostinato.core.registry import OPTIMIZERS
from ostinato.distributed.shards import is_sharded, own

Implementation = Literal["default", "fused", "foreach"]
Groups = list[dict[str, Any]]


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Write the rate of the coming update into every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def named_parameters(optimizer: Optimizer) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) in the order of the groups, which carry their names."""
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


@OPTIMIZERS.register("adamw")
def adamw(
    groups: Groups,
    learning_rate: float,
    implementation: Implementation = "default",
    *,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with the settings of GPT-3 and Llama."""
    return AdamW(
        _with_decay(groups, weight_decay), lr=learning_rate, betas=betas, eps=eps, **_implementation(implementation)
    )


@OPTIMIZERS.register("sgd")
def sgd(
    groups: Groups,
    learning_rate: float,
    implementation: Implementation = "default",
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent; weight decay is added to the gradient, as usual for it."""
    if any(is_sharded(parameter) for group in groups for parameter in group["params"]):
        implementation = "foreach"  # torch's fused one knows no sharded tensors
    return SGD(
        _with_decay(groups, weight_decay),
        lr=learning_rate,
        momentum=momentum,
        nesterov=nesterov,
        **_implementation(implementation),
    )


@OPTIMIZERS.register("lion")
def lion(
    groups: Groups,
    learning_rate: float,
    implementation: Implementation = "default",
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 1.0,
) -> Optimizer:
    """Lion (Chen et al. 2023, arXiv:2302.06675).

    It wants a 3 to 10 times smaller rate than AdamW, hence the larger decay.
    """
    return Lion(_with_decay(groups, weight_decay), learning_rate, betas)


@OPTIMIZERS.register("muon")
def muon(
    groups: Groups,
    learning_rate: float,
    implementation: Implementation = "default",
    *,
    momentum: float = 0.95,
    nesterov: bool = True,
    newton_schulz_steps: int = 5,
    adjust: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
    matrix_lr_scale: float = 1.0,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    adamw_names: tuple[str, ...] = ("embed", "head", "lm_head", "score"),
) -> Optimizer:
    """Muon (Jordan et al. 2024; arXiv:2502.16982) for hidden matrices, AdamW for everything else.

    AdamW gets what is not two-dimensional and each parameter with a part of its dotted name that begins with one of
    `adamw_names`. The matrices' rate is `matrix_lr_scale` times the common one: 1 suits `match_rms_adamw`,
    `original` wants 20 to 100.
    """

    def is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
        return parameter.ndim == 2 and not any(part.startswith(adamw_names) for part in name.split("."))

    hidden, rest = _split(_with_decay(groups, weight_decay), is_hidden_matrix)
    parts: list[Optimizer] = []
    if any(is_sharded(parameter) for group in hidden for parameter in group["params"]):
        raise UserError(
            "optimizer.name: muon works on whole matrices, and distributed.strategy cuts them. Choose adamw, or ddp."
        )
    if hidden:
        scaled = [{**group, "lr_scale": matrix_lr_scale} for group in hidden]
        parts.append(
            Muon(scaled, momentum=momentum, nesterov=nesterov, ns_steps=newton_schulz_steps, adjust_lr_fn=adjust)
        )
    if rest:
        parts.append(AdamW(rest, betas=betas, eps=eps, **_implementation(implementation)))
    optimizer = Joined(parts)
    set_learning_rate(optimizer, learning_rate)
    return optimizer


class Lion(Optimizer):
    """The sign of an interpolated momentum, with decoupled weight decay (arXiv:2302.06675, algorithm 2)."""

    def __init__(self, groups: Groups, learning_rate: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": learning_rate, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            gradients = [own(p.grad) for p in parameters]
            averages = [own(self.state[p]["exp_avg"]) for p in parameters]
            weights = [own(p) for p in parameters]
            rate, (beta1, beta2) = group["lr"], group["betas"]
            update = torch._foreach_lerp(averages, gradients, 1 - beta1)
            torch._foreach_sign_(update)
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
            torch._foreach_add_(weights, update, alpha=-rate)
            torch._foreach_lerp_(averages, gradients, 1 - beta2)


class Joined(Optimizer):
    """Several optimizers, each over its own parameters, as one: one list of groups, one state per parameter."""

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self.parts = list(parts)
        groups = [{**group, "part": i} for i, part in enumerate(self.parts) for group in part.param_groups]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update by every part."""
        for i, part in enumerate(self.parts):
            part.state = self.state  # shared anew each time: loading a state replaces the containers
            part.param_groups = [group for group in self.param_groups if group["part"] == i]
            part.step()


def _implementation(name: Implementation) -> dict[str, bool]:
    return {} if name == "default" else {name: True}


def _with_decay(groups: Groups, weight_decay: float) -> Groups:
    kept = [group for group in groups if group["params"]]
    return [
        {"lr_scale": 1.0, **group, "weight_decay": weight_decay if group["role"] == "matrix" else 0.0} for group in kept
    ]


def _split(groups: Groups, chosen: Callable[[str, torch.Tensor], bool]) -> tuple[Groups, Groups]:
    """Each group cut in two: the parameters for which `chosen(name, parameter)`, then the others; none empty."""
    sides: tuple[Groups, Groups] = ([], [])
    for group in groups:
        for side, wanted in zip(sides, (True, False), strict=True):
            pairs = [(n, p) for n, p in zip(group["names"], group["params"], strict=True) if chosen(n, p) is wanted]
            if pairs:
                side.append({**group, "names": [n for n, _ in pairs], "params": [p for _, p in pairs]})
    return sides
