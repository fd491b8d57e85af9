"""What a model of transformers turns out to do when it is tried on a few tokens: nothing of it is taken on trust."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ostinato.core import seeding
from ostinato.core.errors import UserError

if TYPE_CHECKING:
    from ostinato.models.hf import HF

log = logging.getLogger(__name__)
DOCUMENTS = [[0, 0, 0, 1, 1, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0, 1, 1, -1]]


def examine(model: HF) -> bool:
    """Whether documents of a row can be told apart by their positions.

    Raises UserError for a model that sees what comes later, or whose logits are no linear map of its hidden states.
    """
    name = type(model.causal).__name__
    documents = torch.tensor(DOCUMENTS, device=model.device)
    tokens = (torch.arange(documents.numel(), device=model.device) * 3 + 1).view_as(documents) % model.vocab_size
    with trying(model):
        try:
            states = model.states(tokens)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"model hf: {name} cannot compute with this config: {error}") from error
        if not same(model.states(_changed(tokens, -1))[:, :-1], states[:, :-1]):
            raise UserError(f"model hf: {name} sees what comes after a token: it is no causal language model.")
        if model.output != "scalar" and not same(model.logits_of(states), model.causal(input_ids=tokens).logits):
            raise UserError(f"model hf: the logits of {name} are not a linear map of its last hidden states.")
        if not model.takes_positions:
            return False
        sees = not same(model.states(_changed(tokens, 0))[:, 1:], states[:, 1:])
        packed = model.packed(tokens, documents)
        others = model.packed(_changed(tokens, 0), documents)
        kept = documents == 1
        real = documents >= 0
        alike = same(others[kept], packed[kept]) and same(model.apart(tokens, documents)[real], packed[real])
    if not (sees and alike):
        log.info("%s does not tell the documents of a row apart: each is computed in a row of its own", name)
    return sees and alike


@contextmanager
def trying(model: HF) -> Iterator[None]:
    """In eval mode, uncompiled, without gradient; the modes and random states are as before afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), seeding.preserved_global(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module in training:
            module.training = True


def _changed(tokens: Tensor, column: int) -> Tensor:
    changed = tokens.clone()
    changed[:, column] += torch.where(changed[:, column] > 0, -1, 1)
    return changed


def same(found: Tensor, wanted: Tensor, *, loose: bool = False) -> bool:
    """Up to the rounding of sums in another order; `loose`: fp32 of products that may be in less (bf16, TF32)."""
    exact = found.dtype == wanted.dtype == torch.float32 and found.device.type == "cpu"
    bound = 1e-5 if exact and not (loose and torch.is_autocast_enabled("cpu")) else 2e-2
    return bool((found.float() - wanted.float()).abs().max() <= bound * wanted.float().abs().max())
