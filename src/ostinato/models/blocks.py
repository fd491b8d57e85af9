"""The blocks of a decoder transformer: norm, attention, feed-forward, and how they are put together.

B batch, T time, H heads, G key-value heads, S cached positions, N trained tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostinato.models.attention import AttentionPlan, attend
from ostinato.models.cpu_block import AttentionStep, Facts, MLPStep, RootMeanSquareNorm
from ostinato.models.rope import rotate


class Cache(Protocol):
    """Keys and values of earlier positions, as the generator keeps them."""

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new (B, T, G, width) and return all that may be attended to, (B, S, G, width)."""

    def plan(self, window: int | None, softcap: float | None, scale: float | None) -> AttentionPlan:
        """Who attends to whom in this call."""


# The norms of a block: before the attention, behind it, before the feed-forward, behind it. Names are transformers'.
NORMS: dict[str, tuple[str | None, str | None, str | None, str | None]] = {
    "before": ("input_layernorm", None, "post_attention_layernorm", None),
    "after": (None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
    "both": (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
}


@dataclass(frozen=True)
class Shape:
    """What every block is built from."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    mlp: str
    norm: str
    norm_eps: float
    norm_placement: str
    norm_offset: float
    qk_norm: bool
    qk_norm_over: str
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    norm_bias: bool
    dropout: float
    window_layers: frozenset[int]


@dataclass
class Sight:
    """What layers of one kind attend to and how their heads are turned."""

    plan: AttentionPlan
    cosine: Tensor | None = None  # (T or B x T, 1, turned width / 2), fp32
    sine: Tensor | None = None


@dataclass
class Context:
    """What one forward pass shares over its blocks. Not a pytree, so sharding wrappers leave the fp32 tables alone."""

    sights: dict[bool, Sight]  # of the layers that look through the window (True) and of the others
    cache: Cache | None = None
    rows: Tensor | None = None  # (N,) flat indices of the trained tokens, when they are not all


class Norm(nn.Module):
    """RMSNorm or LayerNorm over the last dimension; statistics in fp32 whatever the input.

    `offset` is added to the weight, in fp32 at least.
    """

    def __init__(self, width: int, kind: str, eps: float, bias: bool, offset: float = 0.0) -> None:
        super().__init__()
        self.kind, self.eps, self.shape, self.offset = kind, eps, (width,), offset
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    @property
    def factors(self) -> Tensor:
        """What is multiplied with, (width,)."""
        if not self.offset:
            return self.weight
        return self.weight.to(torch.promote_types(self.weight.dtype, torch.float32)) + self.offset

    def forward(self, x: Tensor) -> Tensor:
        kind = torch.promote_types(x.dtype, self.weight.dtype)  # of two, the wider one
        wide, weight = x.to(kind), self.factors.to(kind)
        bias = None if self.bias is None else self.bias.to(kind)
        if self.kind == "layer":
            return F.layer_norm(wide, self.shape, weight, bias, self.eps).to(x.dtype)
        if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            normed = RootMeanSquareNorm.apply(wide.reshape(-1, *self.shape), weight, self.eps).view(x.shape)
        else:
            normed = F.rms_norm(wide, self.shape, weight, self.eps)
        return (normed if bias is None else normed + bias).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245) with optional RoPE and query-key norms."""

    def __init__(self, layer: int, shape: Shape) -> None:
        super().__init__()
        self.layer, self.head_width, self.windowed = layer, shape.head_width, layer in shape.window_layers
        self.last = layer == shape.layers - 1
        linear = partial(nn.Linear, bias=shape.qkv_bias)
        self.q_proj = linear(shape.width, shape.heads * shape.head_width)
        self.k_proj = linear(shape.width, shape.kv_heads * shape.head_width)
        self.v_proj = linear(shape.width, shape.kv_heads * shape.head_width)
        self.o_proj = nn.Linear(shape.heads * shape.head_width, shape.width, bias=shape.output_bias)
        self.q_norm = self.k_norm = None
        if shape.qk_norm:
            whole = shape.qk_norm_over == "heads"
            self.q_norm, self.k_norm = (
                Norm(shape.head_width * (count if whole else 1), "rms", shape.norm_eps, False, shape.norm_offset)
                for count in (shape.heads, shape.kv_heads)
            )

    def forward(self, x: Tensor, context: Context) -> Tensor:
        sight = context.sights[self.windowed]
        q, k = self._heads(self.q_proj(x), self.q_norm), self._heads(self.k_proj(x), self.k_norm)
        v = self._heads(self.v_proj(x), None)
        if sight.cosine is not None and sight.sine is not None:
            q, k = rotate(q, sight.cosine, sight.sine), rotate(k, sight.cosine, sight.sine)
        if context.cache is not None:
            k, v = context.cache.update(self.layer, k, v)
        mixed = attend(q, k, v, sight.plan).flatten(2)
        if context.rows is not None and self.last:  # what follows is computed for the trained tokens alone
            mixed = mixed.flatten(0, 1).index_select(0, context.rows)
        return self.o_proj(mixed)

    def _heads(self, projected: Tensor, norm: Norm | None) -> Tensor:
        """(B, T, heads, width) of (B, T, heads x width), each head normed, or all of them as one."""
        if norm is not None:
            projected = norm(projected.unflatten(-1, (-1, *norm.shape))).flatten(2)
        return projected.unflatten(-1, (-1, self.head_width))


class MLP(nn.Module):
    """A feed-forward block, gated (arXiv:2002.05202) when its kind ends in glu."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.kind = shape.mlp
        linear = partial(nn.Linear, bias=shape.mlp_bias)
        self.gate_proj = linear(shape.width, shape.mlp_width) if "glu" in self.kind else None
        self.up_proj = linear(shape.width, shape.mlp_width)
        self.down_proj = linear(shape.mlp_width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        approximate = "tanh" if self.kind.endswith("tanh") else "none"
        if self.gate_proj is None:
            return self.down_proj(F.gelu(self.up_proj(x), approximate=approximate))
        gate = self.gate_proj(x)
        gate = F.silu(gate) if self.kind == "swiglu" else F.gelu(gate, approximate=approximate)
        return self.down_proj(gate * self.up_proj(x))


def make_norm(shape: Shape) -> Norm:
    """A norm of the residual stream."""
    return Norm(shape.width, shape.norm, shape.norm_eps, shape.norm_bias, shape.norm_offset)


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x); or the norm behind, x + norm(attention x); or both."""

    def __init__(self, layer: int, shape: Shape) -> None:
        super().__init__()
        self.layer, self.dropout, self.norms = layer, shape.dropout, NORMS[shape.norm_placement]
        self.self_attn = Attention(layer, shape)
        self.mlp = MLP(shape)
        for name in filter(None, self.norms):
            self.add_module(name, make_norm(shape))

    def norm_at(self, place: int) -> Norm | None:
        """Before the attention (0), behind it (1), before the feed-forward (2) or behind it (3)."""
        name = self.norms[place]
        return None if name is None else getattr(self, name)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if context.cache is None and x.device.type == "cpu" and self._is_plain(x, context):
            return self._steps(x, context)
        mixed = self._normed(1, self.self_attn(self._normed(0, x), context))
        if context.rows is not None and mixed.dim() < x.dim():
            x = x.flatten(0, 1).index_select(0, context.rows)
        x = x + self._drop(mixed)
        return x + self._drop(self._normed(3, self.mlp(self._normed(2, x))))

    def _normed(self, place: int, x: Tensor) -> Tensor:
        norm = self.norm_at(place)
        return x if norm is None else norm(x)

    def _is_plain(self, x: Tensor, context: Context) -> bool:
        """Whether cpu_block.py computes this block: nothing wrapped, hooked, cast, dropped, biased or normed behind."""
        plan = context.sights[self.self_attn.windowed].plan
        if not plan.written_out or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
            return False
        if (self.dropout and self.training) or self.self_attn.q_norm is not None or self.norms != NORMS["before"]:
            return False
        parts = [part for module in (self.self_attn, self.mlp) for part in module.children()]
        norms = [getattr(self, name) for name in self.norms if name is not None]
        return all(
            type(part) in (nn.Linear, Norm)
            and part.bias is None
            and type(part.weight) is nn.Parameter
            and part.weight.dtype == x.dtype
            and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)
            for part in (*parts, *norms)
        )

    def _steps(self, x: Tensor, context: Context) -> Tensor:
        attention, mlp, norm, mlp_norm = self.self_attn, self.mlp, self.norm_at(0), self.norm_at(2)
        assert norm is not None and mlp_norm is not None
        sight, rows = context.sights[attention.windowed], context.rows if self.self_attn.last else None
        facts = Facts(
            norm=norm.kind,
            eps=norm.eps,
            mlp=mlp.kind,
            head_width=attention.head_width,
            time=x.shape[1],
            runs=sight.plan.runs,
            window=sight.plan.window,
            scale=sight.plan.scale,
        )
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        weights = (projection.weight for projection in projections)
        flat = AttentionStep.apply(x.flatten(0, 1), norm.factors, *weights, sight.cosine, sight.sine, rows, facts)
        gate = None if mlp.gate_proj is None else mlp.gate_proj.weight
        flat = MLPStep.apply(flat, mlp_norm.factors, gate, mlp.up_proj.weight, mlp.down_proj.weight, facts)
        return flat.view(x.shape) if rows is None else flat

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Decoder(nn.Module):
    """What transformers calls `model`: embeddings, blocks and the last norm. The forward pass is the Transformer's."""

    def __init__(self, vocab_size: int, learned_positions: int, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, shape.width)
        self.embed_positions = nn.Embedding(learned_positions, shape.width) if learned_positions else None
        self.layers = nn.ModuleList(Block(layer, shape) for layer in range(shape.layers))
        self.norm = make_norm(shape)
