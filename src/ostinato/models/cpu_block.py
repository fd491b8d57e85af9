"""A transformer block on the CPU as two steps of automatic differentiation instead of some thirty.

The same formulas as in blocks.py with their derivatives written out: fewer passes over memory (a residual is added by
the product that ends in it) and less bookkeeping, which is what small models on the CPU spend their time on. For fp32
blocks without biases, dropout, query-key norms and norms behind; everything else takes the modules' own path.
N tokens, D width, H heads, G key-value heads, F width of the feed-forward.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ostinato.models.cpu_attention import Run, attention_backward, attention_forward
from ostinato.models.rope import turn

aten = torch.ops.aten
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Facts(NamedTuple):
    """What the two steps need to know beside tensors."""

    norm: str
    eps: float
    mlp: str
    head_width: int
    time: int
    runs: tuple[Run, ...]
    window: int | None
    scale: float | None


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T. oneDNN is about a tenth faster than torch.mm here, but compiles a kernel per new number of rows."""
    if ONEDNN and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return torch.mm(x, weight.t())


def product_plus(x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
    """other + x @ weight.T."""
    if ONEDNN and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, None, "add")
    return torch.addmm(other, x, weight.t())


def normalise(x: Tensor, weight: Tensor, kind: str, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of each row, and its mean and 1 / deviation, (N, 1)."""
    if kind == "layer":
        return torch.native_layer_norm(x, weight.shape, weight, None, eps)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * scale).mul_(weight), torch.zeros_like(scale), scale


def normalise_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor, kind: str
) -> tuple[Tensor, Tensor]:
    """Gradients of the rows and of the weight."""
    mask = [True, True, False]
    d_x, d_weight, _ = aten.native_layer_norm_backward(gradient, x, weight.shape, mean, scale, weight, None, mask)
    if kind == "rms":  # the layer norm with mean 0, which also takes off the mean of the gradient: put it back
        d_x.add_((gradient @ weight).div_(len(weight)).unsqueeze(1) * scale)
    return d_x, d_weight


class RootMeanSquareNorm(torch.autograd.Function):
    """RMSNorm of (N, D); torch's own has no fused backward pass on the CPU."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, mean, scale = normalise(x, weight, "rms", eps)
        context.save_for_backward(x, mean, scale, weight)
        return normed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, mean, scale, weight = context.saved_tensors
        return *normalise_backward(gradient.contiguous(), x, mean, scale, weight, "rms"), None


class AttentionStep(torch.autograd.Function):
    """x + o(attention(norm x)), (N, D) -> (N, D), or (rows, D) when only some rows are wanted."""

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        norm: Tensor,
        w_q: Tensor,
        w_k: Tensor,
        w_v: Tensor,
        w_o: Tensor,
        cosine: Tensor | None,
        sine: Tensor | None,
        rows: Tensor | None,
        facts: Facts,
    ) -> Tensor:
        normed, mean, scale = normalise(x, norm, facts.norm, facts.eps)
        q, k, v = (product(normed, w).view(len(x), -1, facts.head_width) for w in (w_q, w_k, w_v))
        if cosine is not None and sine is not None:
            q, k = (_turned(heads, cosine, sine, -1, facts) for heads in (q, k))
        mixed, kept = attention_forward(q, k, v, facts.runs, facts.window, facts.scale)
        mixed = mixed.flatten(1)
        residual = x
        if rows is not None:
            mixed, residual = mixed.index_select(0, rows), x.index_select(0, rows)
        saved = (x, normed, mean, scale, mixed, norm, w_q, w_k, w_v, w_o, cosine, sine, rows, *kept)
        context.save_for_backward(*saved)
        context.facts, context.groups = facts, k.shape[1]
        if rows is not None:  # their number changes from batch to batch
            return torch.addmm(residual, mixed, w_o.t())
        return product_plus(mixed, w_o, residual)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, normed, mean, scale, mixed, norm, w_q, w_k, w_v, w_o, cosine, sine, rows, *kept = context.saved_tensors
        facts: Facts = context.facts
        gradient = gradient.contiguous()
        d_o = torch.mm(gradient.t(), mixed)
        d_mixed = torch.mm(gradient, w_o) if rows is not None else product(gradient, w_o.t())
        if rows is not None:
            d_mixed = d_mixed.new_zeros((len(x), d_mixed.shape[1])).index_copy_(0, rows, d_mixed)
        heads = d_mixed.view(len(x), -1, facts.head_width)
        d_q, d_k, d_v = attention_backward(heads, kept, facts.runs, facts.window, context.groups, facts.scale)
        if cosine is not None and sine is not None:
            d_q, d_k = (_turned(d, cosine, sine, 1, facts) for d in (d_q, d_k))
        flat = [d.flatten(1) for d in (d_q, d_k, d_v)]
        d_normed = product(flat[0], w_q.t())
        d_normed = product_plus(flat[2], w_v.t(), product_plus(flat[1], w_k.t(), d_normed))
        d_weights = [torch.mm(d.t(), normed) for d in flat]
        d_x, d_norm = normalise_backward(d_normed, x, mean, scale, norm, facts.norm)
        d_x = d_x.add_(gradient) if rows is None else d_x.index_add_(0, rows, gradient)
        return d_x, d_norm, *d_weights, d_o, None, None, None, None


class MLPStep(torch.autograd.Function):
    """x + down(activation(norm x)), (N, D) -> (N, D). `w_gate` None: no gate."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, norm: Tensor, w_gate: Tensor | None, w_up: Tensor, w_down: Tensor, facts: Facts
    ) -> Tensor:
        normed, mean, scale = normalise(x, norm, facts.norm, facts.eps)
        up = product(normed, w_up)
        gate = up if w_gate is None else product(normed, w_gate)
        active = F.silu(gate) if facts.mlp == "swiglu" else F.gelu(gate, approximate=approximation(facts))
        inner = active if w_gate is None else active * up
        context.save_for_backward(x, normed, mean, scale, gate, up, active, inner, norm, w_gate, w_up, w_down)
        context.facts = facts
        return product_plus(inner, w_down, x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, normed, mean, scale, gate, up, active, inner, norm, w_gate, w_up, w_down = context.saved_tensors
        facts: Facts = context.facts
        gradient = gradient.contiguous()
        d_down = torch.mm(gradient.t(), inner)
        d_inner = product(gradient, w_down.t())
        d_up = d_inner if w_gate is None else d_inner * active
        d_active = d_inner if w_gate is None else d_inner.mul_(up)
        if facts.mlp == "swiglu":
            d_gate = aten.silu_backward(d_active, gate)
        else:
            d_gate = aten.gelu_backward(d_active, gate, approximate=approximation(facts))
        if w_gate is None:
            d_normed, d_w_gate, d_w_up = product(d_gate, w_up.t()), None, torch.mm(d_gate.t(), normed)
        else:
            d_normed = product_plus(d_up, w_up.t(), product(d_gate, w_gate.t()))
            d_w_gate, d_w_up = torch.mm(d_gate.t(), normed), torch.mm(d_up.t(), normed)
        d_x, d_norm = normalise_backward(d_normed, x, mean, scale, norm, facts.norm)
        return d_x.add_(gradient), d_norm, d_w_gate, d_w_up, d_down, None


def _turned(heads: Tensor, cosine: Tensor, sine: Tensor, sign: int, facts: Facts) -> Tensor:
    return turn(heads.view(-1, facts.time, *heads.shape[1:]), cosine, sine, sign).view(heads.shape)


def approximation(facts: Facts) -> str:
    return "tanh" if facts.mlp.endswith("tanh") else "none"
