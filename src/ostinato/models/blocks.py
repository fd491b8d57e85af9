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

    def plan(self, window: int | None, softcap: float | None) -> AttentionPlan:
        """Who attends to whom in this call."""


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
    qk_norm: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    norm_bias: bool
    dropout: float


@dataclass
class Context:
    """What one forward pass shares over its blocks. Not a pytree, so sharding wrappers leave the fp32 tables alone."""

    plan: AttentionPlan
    cosine: Tensor | None = None  # (T or B x T, 1, head width / 2), fp32
    sine: Tensor | None = None
    cache: Cache | None = None
    rows: Tensor | None = None  # (N,) flat indices of the trained tokens, when they are not all


class Norm(nn.Module):
    """RMSNorm or LayerNorm over the last dimension; statistics in fp32 whatever the input."""

    def __init__(self, width: int, kind: str, eps: float, bias: bool) -> None:
        super().__init__()
        self.kind, self.eps, self.shape = kind, eps, (width,)
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        wide = x if x.dtype == weight.dtype else x.to(weight.dtype)
        if self.kind == "layer":
            return F.layer_norm(wide, self.shape, weight, self.bias, self.eps).to(x.dtype)
        if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            normed = RootMeanSquareNorm.apply(wide.reshape(-1, *self.shape), weight, self.eps).view(x.shape)
        else:
            normed = F.rms_norm(wide, self.shape, weight, self.eps)
        return (normed if self.bias is None else normed + self.bias).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245) with optional RoPE and query-key norms."""

    def __init__(self, layer: int, shape: Shape) -> None:
        super().__init__()
        self.layer, self.head_width = layer, shape.head_width
        self.last = layer == shape.layers - 1
        linear = partial(nn.Linear, bias=shape.qkv_bias)
        self.q_proj = linear(shape.width, shape.heads * shape.head_width)
        self.k_proj = linear(shape.width, shape.kv_heads * shape.head_width)
        self.v_proj = linear(shape.width, shape.kv_heads * shape.head_width)
        self.o_proj = nn.Linear(shape.heads * shape.head_width, shape.width, bias=shape.output_bias)
        self.q_norm = Norm(shape.head_width, "rms", shape.norm_eps, False) if shape.qk_norm else None
        self.k_norm = Norm(shape.head_width, "rms", shape.norm_eps, False) if shape.qk_norm else None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        heads = (*x.shape[:2], -1, self.head_width)
        q, k, v = (project(x).view(heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if context.cosine is not None and context.sine is not None:
            q, k = rotate(q, context.cosine, context.sine), rotate(k, context.cosine, context.sine)
        if context.cache is not None:
            k, v = context.cache.update(self.layer, k, v)
        mixed = attend(q, k, v, context.plan).flatten(2)
        if context.rows is not None and self.last:  # what follows is computed for the trained tokens alone
            mixed = mixed.flatten(0, 1).index_select(0, context.rows)
        return self.o_proj(mixed)


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


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, layer: int, shape: Shape) -> None:
        super().__init__()
        norm = partial(Norm, shape.width, shape.norm, shape.norm_eps, shape.norm_bias)
        self.layer, self.dropout = layer, shape.dropout
        self.self_attn = Attention(layer, shape)
        self.mlp = MLP(shape)
        self.input_layernorm = norm()
        self.post_attention_layernorm = norm()

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if context.cache is None and x.device.type == "cpu" and self._is_plain(x, context.plan):
            return self._steps(x, context)
        mixed = self.self_attn(self.input_layernorm(x), context)
        if context.rows is not None and mixed.dim() < x.dim():
            x = x.flatten(0, 1).index_select(0, context.rows)
        x = x + self._drop(mixed)
        return x + self._drop(self.mlp(self.post_attention_layernorm(x)))

    def _is_plain(self, x: Tensor, plan: AttentionPlan) -> bool:
        """Whether cpu_block.py computes this block: nothing wrapped, hooked, cast, dropped or biased."""
        if not plan.written_out or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
            return False
        if (self.dropout and self.training) or self.self_attn.q_norm is not None:
            return False
        parts = [part for module in (self.self_attn, self.mlp) for part in module.children()]
        norms = (self.input_layernorm, self.post_attention_layernorm)
        return all(
            type(part) in (nn.Linear, Norm)
            and part.bias is None
            and type(part.weight) is nn.Parameter
            and part.weight.dtype == x.dtype
            and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)
            for part in (*parts, *norms)
        )

    def _steps(self, x: Tensor, context: Context) -> Tensor:
        attention, mlp, norm = self.self_attn, self.mlp, self.input_layernorm
        plan, rows = context.plan, context.rows if self.self_attn.last else None
        facts = Facts(norm.kind, norm.eps, mlp.kind, attention.head_width, x.shape[1], plan.runs, plan.window)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        weights = (projection.weight for projection in projections)
        flat = AttentionStep.apply(x.flatten(0, 1), norm.weight, *weights, context.cosine, context.sine, rows, facts)
        gate = None if mlp.gate_proj is None else mlp.gate_proj.weight
        norm = self.post_attention_layernorm
        flat = MLPStep.apply(flat, norm.weight, gate, mlp.up_proj.weight, mlp.down_proj.weight, facts)
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
        self.norm = Norm(shape.width, shape.norm, shape.norm_eps, shape.norm_bias)
