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
CACHE_BYTES = 2**20  # a part of a tile that the CPU's cache holds through several passes
FEWEST_ROWS = 512  # a product of fewer rows reads the weights more often than it pays


@dataclass(frozen=True)
class TokenScores:
    """Scores of the trained labels in row-major order, (N,) fp32 each; None what was not asked for."""

    log_probs: Tensor
    entropy: Tensor | None = None
    top1: Tensor | None = None  # (N,) bool: the label is the first maximum
    values: Tensor | None = None  # of a model that also has a scalar head: its number where the label is predicted


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


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right with an fp32 result (wider when the operands are)."""
    if left.dtype in (torch.float32, torch.float64):
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def cached_rows(z: Tensor) -> Iterator[slice]:
    """Rows of a tile to go over together: on the CPU few enough to stay in its cache, else all of them."""
    step = max(1, len(z))
    if z.device.type == "cpu":
        step = max(16, CACHE_BYTES // (4 * max(1, z.shape[1])))
    return (slice(start, min(start + step, len(z))) for start in range(0, len(z), step))


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
        self.own = torch.where(*inside(self.labels - start, z), self.own)
        maximum = torch.maximum(self.maximum, top)
        shifted = z - maximum.unsqueeze(1)
        powers = shifted.exp()
        fade = (self.maximum - maximum).exp()  # 0 on the first tile
        if self.want_entropy:
            earlier = torch.where(self.total > 0, self.total * (self.maximum - maximum), self.total)
            self.moment = fade * (self.moment + earlier) + shifted.mul_(powers).sum(dim=1)
        self.total = fade * self.total + powers.sum(dim=1)
        self.maximum = maximum

    def finish(self, into: _Outputs) -> None:
        log_total = self.total.log()
        into.normaliser.copy_(self.maximum + log_total)
        into.log_probs.copy_((self.own - self.maximum) - log_total)
        if into.entropy is not None:
            into.entropy.copy_(log_total - self.moment / self.total)
        if into.top1 is not None:
            into.top1.copy_(self.best == self.labels)


class _Outputs(NamedTuple):
    """What the forward pass fills; `[rows]` gives views."""

    normaliser: Tensor  # logsumexp z
    log_probs: Tensor
    entropy: Tensor | None
    top1: Tensor | None

    def rows(self, part: slice) -> _Outputs:
        return _Outputs(*(None if x is None else x[part] for x in self))  # type: ignore[arg-type]


def inside(local: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a label lies in this tile of columns, and its z (anything where it does not)."""
    here = (local >= 0) & (local < z.shape[1])
    return here, z.gather(1, local.clamp(0, z.shape[1] - 1).unsqueeze(1)).squeeze(1)


def _score_whole(z: Tensor, labels: Tensor, into: _Outputs) -> None:
    """Rows whose whole vocabulary is in one tile: torch's fused softmax does it in fewer passes."""
    for part in cached_rows(z):
        own, out = labels[part].unsqueeze(1), into.rows(part)
        log_p = z[part].log_softmax(dim=1)
        out.log_probs.copy_(log_p.gather(1, own).squeeze(1))
        if out.top1 is not None:
            out.top1.copy_(z[part].max(dim=1).indices == labels[part])
        if out.entropy is not None:
            out.entropy.copy_(log_p.mul_(z[part].softmax(dim=1)).sum(dim=1).neg_())


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
        sums = hidden.new_empty((3, rows), dtype=wide)
        top1 = labels.new_empty(rows, dtype=torch.bool) if want_top1 else None
        outputs = _Outputs(sums[0], sums[1], sums[2] if want_entropy else None, top1)
        kept: Tensor | None = None
        for part, spans in tiles(rows, len(w), options.tile):
            running = _Running(labels[part], want_entropy, want_top1, sums)
            for span in spans:
                z = logits_tile(h[part], w[span], None if bias is None else bias[span], options)
                if len(spans) == 1:
                    _score_whole(z, labels[part], outputs.rows(part))
                else:
                    running.add(z, span.start)
                if z.shape == (rows, len(w)):
                    kept = z
            if len(spans) > 1:
                running.finish(outputs.rows(part))
        context.options = options
        context.save_for_backward(hidden, weight, bias, labels, outputs.normaliser, outputs.entropy, kept)
        if top1 is not None:
            context.mark_non_differentiable(top1)
        context.set_materialize_grads(False)
        return outputs.log_probs, outputs.entropy, top1

    @staticmethod
    def backward(context: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.autocast(context.saved_tensors[0].device.type, enabled=False):
            return _Scores._backward(context, gradients[0], gradients[1])

    @staticmethod
    def _backward(context: Any, to_log_probs: Tensor | None, to_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, normaliser, entropy, kept = context.saved_tensors
        options: HeadOptions = context.options
        need_hidden, need_weight, need_bias = context.needs_input_grad[:3]
        h, w = hidden.to(options.dtype), weight.to(options.dtype)
        wide = normaliser.dtype
        make = torch.empty_like if len(labels) else torch.zeros_like
        d_hidden = make(h, dtype=wide) if need_hidden else None
        d_weight = make(w, dtype=wide) if need_weight else None
        d_bias = torch.zeros_like(bias, dtype=wide) if need_bias else None
        columns = (normaliser, to_log_probs, to_entropy, entropy)
        for part, spans in tiles(len(labels), len(w), options.tile):
            for span in spans:
                tile_bias = None if bias is None else bias[span]
                z = logits_tile(h[part], w[span], tile_bias, options) if kept is None else kept
                local = [None if column is None else column[part] for column in columns]
                if len(spans) == 1:
                    local[0] = None
                d_z = torch.empty_like(z, dtype=options.dtype) if kept is not None or options.dtype != wide else z
                total = None if d_bias is None else d_bias[span]
                d_z = _tile_gradient(z, d_z, total, labels[part] - span.start, options, *local)
                if d_hidden is not None:
                    accumulate(d_hidden[part], d_z, w[span], first=span.start == 0)
                if d_weight is not None:
                    accumulate(d_weight[span], d_z.t(), h[part], first=part.start == 0)
        return (
            None if d_hidden is None else d_hidden.to(hidden.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            *(None,) * 4,
        )


def accumulate(total: Tensor, left: Tensor, right: Tensor, first: bool) -> None:
    """total += left @ right, or = where it is the first; products accumulate in `total`'s dtype."""
    if left.dtype == total.dtype:
        total.addmm_(left, right, beta=0 if first else 1)
    elif first:
        total.copy_(_product(left, right))
    else:
        total += _product(left, right)


def _tile_gradient(
    z: Tensor,
    room: Tensor,
    d_bias: Tensor | None,
    local: Tensor,
    options: HeadOptions,
    normaliser: Tensor | None,
    to_log_probs: Tensor | None,
    to_entropy: Tensor | None,
    entropy: Tensor | None,
) -> Tensor:
    """d loss / d (W h + b) of one tile: g (1[j=y] - p_j) - e p_j (log p_j + H), then the chain rule.

    `normaliser` None: the tile holds the whole vocabulary. The result may be in `room`, which may be `z` itself.
    """
    for part in cached_rows(z):
        own_z = z[part]
        p = own_z.softmax(dim=1) if normaliser is None else (own_z - normaliser[part].unsqueeze(1)).exp_()
        if to_entropy is None or entropy is None:
            gradient = p.mul_(0.0 if to_log_probs is None else to_log_probs[part].neg().unsqueeze(1))
        else:
            log_p = own_z.log_softmax(dim=1) if normaliser is None else own_z - normaliser[part].unsqueeze(1)
            gradient = log_p.add_(entropy[part].unsqueeze(1)).mul_(to_entropy[part].neg().unsqueeze(1))
            if to_log_probs is not None:
                gradient.sub_(to_log_probs[part].unsqueeze(1))
            gradient.mul_(p)
        if to_log_probs is not None:
            own, column = to_log_probs[part], local[part]
            if normaliser is not None:  # the label may lie in another tile
                own = torch.where((column >= 0) & (column < z.shape[1]), own, 0.0)
                column = column.clamp(0, z.shape[1] - 1)
            gradient.scatter_add_(1, column.unsqueeze(1), own.unsqueeze(1))
        if options.softcap is not None:
            share = own_z * (options.temperature / options.softcap)  # tanh of the forward pass
            gradient.mul_(share.mul_(share).neg_().add_(1.0))
        if options.scale != options.temperature:
            gradient.mul_(options.scale / options.temperature)
        if d_bias is not None:
            d_bias += gradient.sum(dim=0)
        if len(gradient) == len(z):
            return gradient.to(room.dtype)  # rounded here, once, where the products' operands are bf16
        room[part] = gradient
    return room
