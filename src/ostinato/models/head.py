"""The language-model head: log-probs of the trained labels without ever holding [N, V].

z = softcap * tanh(scale * (W h + b) / softcap) / temperature
log_probs = z_y - logsumexp z, entropy = logsumexp z - sum p z
Logits live in fp32 tiles of at most 64 MiB, computed once more in the backward pass unless one tile holds them all.
N trained tokens, D width, V vocabulary; B batch, T time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORE = -100
TILE_BYTES = 64 * 2**20
FEWEST_ROWS = 512  # a product of fewer rows reads the weights more often than it pays


@dataclass(frozen=True)
class TokenScores:
    """Scores of the trained labels in row-major order, (N,) fp32 each; None what was not asked for."""

    log_probs: Tensor
    entropy: Tensor | None = None
    top1: Tensor | None = None  # (N,) bool: the label is the first maximum


class HeadOptions(NamedTuple):
    """What turns W h into z, and how it is computed. `dtype` is that of the operands of the products."""

    softcap: float | None = None
    scale: float = 1.0
    temperature: float = 1.0
    dtype: torch.dtype = torch.float32
    tile: tuple[int, int] | None = None  # rows and columns; None: chosen by size


def trained_indices(labels: Tensor) -> Tensor:
    """Flat indices of the labels that are not IGNORE. Waits for the device: better made at collation."""
    return (labels.reshape(-1) != IGNORE).nonzero().squeeze(1)


def token_scores(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    temperature: float = 1.0,
    want: frozenset[str] | set[str] = frozenset(),
    tile: tuple[int, int] | None = None,
) -> TokenScores:
    """Scores of `labels` (N,) under the rows of `hidden` (N, D) and `weight` (V, D), `bias` (V,)."""
    if unknown := set(want) - {"entropy", "top1"}:
        raise ValueError(f"the head has no {', '.join(sorted(unknown))}: want may hold entropy and top1")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0 to score tokens, not {temperature}")
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    options = HeadOptions(softcap, scale, temperature, dtype, tile)
    with torch.autocast(device, enabled=False):
        log_probs, entropy, top1 = _Scores.apply(
            hidden, weight, bias, labels, options, "entropy" in want, "top1" in want
        )
    return TokenScores(log_probs, entropy, top1)


def tiles(rows: int, columns: int, tile: tuple[int, int] | None = None) -> Iterator[tuple[slice, list[slice]]]:
    """Cut [rows, columns] into fp32 tiles of at most TILE_BYTES: each slice of rows with its slices of columns."""
    if tile is None:
        wide = columns if columns * FEWEST_ROWS * 4 <= TILE_BYTES else min(columns, TILE_BYTES // (4 * 4 * FEWEST_ROWS))
        tile = max(1, TILE_BYTES // (4 * max(1, wide))), max(1, wide)
    spans = [slice(start, min(start + tile[1], columns)) for start in range(0, columns, tile[1])]
    for start in range(0, rows, tile[0]):
        yield slice(start, min(start + tile[0], rows)), spans


def logits_tile(hidden: Tensor, weight: Tensor, bias: Tensor | None, options: HeadOptions) -> Tensor:
    """z of one tile, fp32: `hidden` (n, D) and `weight` (v, D) in the operands' dtype, products accumulated in fp32."""
    z = _product(hidden, weight.t())
    if bias is not None:
        z += bias
    if options.softcap is not None:
        z.mul_(options.scale / options.softcap).tanh_().mul_(options.softcap / options.temperature)
    elif options.scale != options.temperature:
        z.mul_(options.scale / options.temperature)
    return z


def logits_gradient(gradient: Tensor, z: Tensor, options: HeadOptions) -> Tensor:
    """From d/dz to d/d(W h + b), in place in `gradient`; the options' chain rule backwards."""
    if options.softcap is not None:
        share = z * (options.temperature / options.softcap)  # tanh of the forward pass
        gradient.mul_(share.mul_(share).neg_().add_(1.0))
    if options.scale != options.temperature:
        gradient.mul_(options.scale / options.temperature)
    return gradient


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right with an fp32 result (wider when the operands are)."""
    if left.dtype in (torch.float32, torch.float64):
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


class _Running:
    """Maximum, sum of exponentials and what else is asked for, over the tiles of some rows."""

    def __init__(self, labels: Tensor, entropy: bool, top1: bool, like: Tensor) -> None:
        rows = len(labels)
        self.labels, self.want_entropy, self.want_top1 = labels, entropy, top1
        self.maximum = like.new_full((rows,), -torch.inf)
        self.total = like.new_zeros(rows)  # sum of exp(z - maximum)
        self.moment = like.new_zeros(rows)  # sum of exp(z - maximum) (z - maximum)
        self.best = labels.new_zeros(rows)
        self.own = like.new_zeros(rows)  # z of the label

    def add(self, z: Tensor, start: int) -> None:
        """One more tile of columns, the first of which is `start`. Leaves `z` as it is."""
        if self.want_top1:
            top, best = z.max(dim=1)
            self.best = torch.where(top > self.maximum, best + start, self.best)
        else:
            top = z.amax(dim=1)
        local = self.labels - start
        inside = (local >= 0) & (local < z.shape[1])
        own = z.gather(1, local.clamp(0, z.shape[1] - 1).unsqueeze(1)).squeeze(1)
        self.own = torch.where(inside, own, self.own)
        maximum = torch.maximum(self.maximum, top)
        shifted = z - maximum.unsqueeze(1)
        powers = shifted.exp()
        fade = (self.maximum - maximum).exp()  # 0 on the first tile
        if self.want_entropy:
            earlier = torch.where(self.total > 0, self.total * (self.maximum - maximum), self.total)
            self.moment = fade * (self.moment + earlier) + shifted.mul_(powers).sum(dim=1)
        self.total = fade * self.total + powers.sum(dim=1)
        self.maximum = maximum


class _Scores(torch.autograd.Function):
    """(log_probs, entropy or None, top1 or None) of (N, D) x (V, D)."""

    @staticmethod
    def forward(
        context: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        options: HeadOptions,
        want_entropy: bool,
        want_top1: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        rows = len(labels)
        h, w = hidden.to(options.dtype), weight.to(options.dtype)
        wide = torch.float64 if options.dtype == torch.float64 else torch.float32
        normaliser = hidden.new_empty(rows, dtype=wide)  # logsumexp z
        log_probs = torch.empty_like(normaliser)
        entropy = torch.empty_like(normaliser) if want_entropy else None
        top1 = labels.new_empty(rows, dtype=torch.bool) if want_top1 else None
        kept: Tensor | None = None
        for part, spans in tiles(rows, len(w), options.tile):
            running = _Running(labels[part], want_entropy, want_top1, normaliser)
            for span in spans:
                z = logits_tile(h[part], w[span], None if bias is None else bias[span], options)
                running.add(z, span.start)
                if z.shape == (rows, len(w)):
                    kept = z
            log_total = running.total.log()
            normaliser[part] = running.maximum + log_total
            log_probs[part] = (running.own - running.maximum) - log_total
            if entropy is not None:
                entropy[part] = log_total - running.moment / running.total
            if top1 is not None:
                top1[part] = running.best == running.labels
        context.options = options
        context.save_for_backward(hidden, weight, bias, labels, normaliser, entropy, kept)
        if top1 is not None:
            context.mark_non_differentiable(top1)
        context.set_materialize_grads(False)
        return log_probs, entropy, top1

    @staticmethod
    def backward(context: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, normaliser, entropy, kept = context.saved_tensors
        options: HeadOptions = context.options
        to_log_probs, to_entropy = gradients[0], gradients[1]
        need_hidden, need_weight, need_bias = context.needs_input_grad[:3]
        h, w = hidden.to(options.dtype), weight.to(options.dtype)
        wide = normaliser.dtype
        d_hidden = torch.zeros_like(h, dtype=wide) if need_hidden else None
        d_weight = torch.zeros_like(w, dtype=wide) if need_weight else None
        d_bias = torch.zeros_like(bias, dtype=wide) if need_bias else None
        if to_log_probs is not None or to_entropy is not None:
            for part, spans in tiles(len(labels), len(w), options.tile):
                for span in spans:
                    tile_bias = None if bias is None else bias[span]
                    z = logits_tile(h[part], w[span], tile_bias, options) if kept is None else kept
                    d_z = _tile_gradient(
                        z,
                        normaliser[part],
                        labels[part] - span.start,
                        None if to_log_probs is None else to_log_probs[part],
                        None if to_entropy is None else to_entropy[part],
                        None if entropy is None else entropy[part],
                    )
                    d_z = logits_gradient(d_z, z, options)
                    if d_bias is not None:
                        d_bias[span] += d_z.sum(dim=0)
                    rounded = d_z.to(options.dtype)
                    if d_hidden is not None:
                        _accumulate(d_hidden[part], rounded, w[span])
                    if d_weight is not None:
                        _accumulate(d_weight[span], rounded.t(), h[part])
        return (
            None if d_hidden is None else d_hidden.to(hidden.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
            None,
            None,
            None,
        )


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += _product(left, right)


def _tile_gradient(
    z: Tensor,
    normaliser: Tensor,
    local: Tensor,
    to_log_probs: Tensor | None,
    to_entropy: Tensor | None,
    entropy: Tensor | None,
) -> Tensor:
    """d loss / d z of one tile: g (1[j=y] - p_j) - e p_j (log p_j + H)."""
    log_p = z - normaliser.unsqueeze(1)
    if to_entropy is None or entropy is None:
        assert to_log_probs is not None
        gradient = log_p.exp_().mul_(to_log_probs.neg().unsqueeze(1))
    else:
        p = log_p.exp()
        gradient = log_p.add_(entropy.unsqueeze(1)).mul_(to_entropy.neg().unsqueeze(1))
        if to_log_probs is not None:
            gradient.sub_(to_log_probs.unsqueeze(1))
        gradient.mul_(p)
    if to_log_probs is not None:
        inside = (local >= 0) & (local < z.shape[1])
        own = torch.where(inside, to_log_probs, 0.0)
        gradient.scatter_add_(1, local.clamp(0, z.shape[1] - 1).unsqueeze(1), own.unsqueeze(1))
    return gradient
