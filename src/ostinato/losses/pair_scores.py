"""What a preference loss reads: one number per pair and response. Letter: P pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EXPONENT = 80.0  # where exponents of divergences stop: e^88 is the largest that fp32 holds


class Traits(NamedTuple):
    """What a preference loss judges a response by, the option that scales it, and its own weight of the NLL term."""

    judges: Literal["gain", "log_prob", "mean_log_prob"] = "gain"
    scale: str = "beta"
    nll_weight: float = 0.0


def judges(what: Literal["log_prob", "mean_log_prob"], scale: str = "beta", nll_weight: float = 0.0) -> Any:
    """Decorator of a loss without reference. Losses that bear none read gains."""

    def decorate(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        loss.traits = Traits(what, scale, nll_weight)  # type: ignore[attr-defined]
        return loss

    return decorate


@dataclass(frozen=True)
class PairScores:
    """All (P,). `chosen`, `rejected`: sums of log-probs over the response; gains: sums of policy minus reference."""

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    chosen_gain: Any = None  # a Tensor; None where the loss has no reference
    rejected_gain: Any = None

    def gain_difference(self, divergence: str = "reverse_kl", alpha: float = 0.5) -> Tensor:
        """(P,) of f(chosen gain) - f(rejected gain), f the chosen divergence's (Wang et al. 2023, arXiv:2309.16240)."""
        return diverging(self.chosen_gain, divergence, alpha) - diverging(self.rejected_gain, divergence, alpha)


def diverging(gain: Tensor, divergence: str, alpha: float) -> Tensor:
    """reverse_kl: x; forward_kl: 1 - e^-x; js: ln 2 + log sigmoid(x); alpha: (e^((alpha-1)x) - 1)/(alpha-1)."""
    if divergence == "js":
        return math.log(2) + F.logsigmoid(gain)
    if divergence == "reverse_kl" or (divergence == "alpha" and alpha == 1.0):  # its limit
        return gain
    if divergence not in ("forward_kl", "alpha"):
        raise ValueError(f"divergence: {divergence!r} is none of reverse_kl, forward_kl, js, alpha")
    power = -1.0 if divergence == "forward_kl" else alpha - 1.0
    return torch.expm1((power * gain).clamp(max=EXPONENT)) / power
