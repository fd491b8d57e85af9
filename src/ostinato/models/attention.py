"""Causal attention within documents, by kernels that agree: who attends to whom is planned once per forward.

sdpa       scaled_dot_product_attention: is_causal where a row is one document, else one boolean mask (the reference)
documents  document by document, so that nothing between documents is computed; short ones as in cpu_attention.py
flex       flex_attention with a block mask, varlen  torch.nn.attention.varlen (both CUDA)
B batch, T time, H heads, G key-value heads, S cached positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ostinato.models.cpu_attention import LONGEST, CausalAttention, Run

AttentionKind = Literal["auto", "sdpa", "documents", "flex", "varlen"]


@dataclass
class AttentionPlan:
    """Who attends to whom in this forward pass, in the form the chosen kernel wants. Shared by all layers of a kind."""

    kind: str  # causal | mask | documents | flex | varlen
    window: int | None = None
    softcap: float | None = None
    scale: float | None = None  # of scores; None: head width ** -0.5
    dropout: float = 0.0
    mask: Tensor | None = None  # bool, (T, T), (B, 1, T, T) or (B, 1, T, S); True may attend
    runs: tuple[Run, ...] = ()  # the documents, over B x T
    boundaries: Tensor | None = None  # (documents + 1,) int32, varlen
    longest: int = 0
    block_mask: Any = None
    written_out: bool = False  # by products and softmax: documents as in cpu_attention.py, given fp32, or a mask


def plan_attention(
    kind: AttentionKind,
    shape: tuple[int, int],
    documents: Tensor | None,
    device: torch.device,
    *,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> AttentionPlan:
    """The plan for rows of `shape` (B, T). `documents` (B, T): equal neighbours belong together, -1 is padding."""
    batch, time = shape
    if window is not None and window >= time:
        window = None
    if kind == "auto":
        apart = device.type == "cpu" and softcap is None and (documents is not None or time <= LONGEST)
        kind = "documents" if apart else "sdpa"
    plan = AttentionPlan(kind, window, softcap, scale, dropout)
    if kind == "flex":
        plan.block_mask = _block_mask(batch, time, documents, window, device)
    elif kind == "varlen":
        _plan_varlen(plan, batch, time, documents, device)
    elif kind == "documents":
        if softcap is not None:
            raise ValueError("attention: documents has no attention_softcap; use attention: sdpa or flex")
        plan.runs = (Run(0, batch, time),) if documents is None else document_runs(documents)
        plan.written_out = device.type == "cpu" and not dropout and all(run.length <= LONGEST for run in plan.runs)
    elif documents is not None or window is not None:
        plan.kind, plan.mask = "mask", causal_mask(time, documents, window, device)
    else:
        plan.kind = "causal"
    return plan


def document_runs(documents: Tensor) -> tuple[Run, ...]:
    """Runs of documents, neighbours of one length together, over the flattened rows; a row's end ends a document."""
    numbers = documents.detach().cpu()
    starts = torch.ones_like(numbers, dtype=torch.bool)
    starts[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    begins = starts.flatten().nonzero().squeeze(1)
    lengths = torch.diff(begins, append=begins.new_tensor([numbers.numel()])).tolist()
    real = (numbers.flatten()[begins] >= 0).tolist()
    runs: list[Run] = []
    for start, length, is_document in zip(begins.tolist(), lengths, real, strict=True):
        last = runs[-1] if runs else None
        if is_document and last is not None and last.length == length and last.tokens.stop == start:
            runs[-1] = replace(last, count=last.count + 1)
        elif is_document:
            runs.append(Run(start, 1, length))
    return tuple(runs)


def causal_mask(time: int, documents: Tensor | None, window: int | None, device: torch.device) -> Tensor:
    """(T, T), or (B, 1, T, T) with documents. Padding attends to padding, so that no row is empty."""
    step = torch.arange(time, device=device)
    behind = step[:, None] - step[None, :]
    allowed = behind >= 0
    if window is not None:
        allowed &= behind < window
    if documents is None:
        return allowed
    return (allowed & (documents[:, :, None] == documents[:, None, :])).unsqueeze(1)


def attend(query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan) -> Tensor:
    """query (B, T, H, width), key and value (B, S, G, width) -> (B, T, H, width)."""
    if plan.kind == "documents":
        return _attend_documents(query, key, value, plan)
    if plan.kind == "varlen":
        return _attend_varlen(query, key, value, plan)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # (B, H or G, T or S, width)
    if plan.kind == "flex":
        mixed = _attend_flex(q, k, v, plan)
    elif plan.softcap is not None or plan.written_out:
        mixed = _attend_written_out(q, k, v, plan)
    else:
        mixed = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=plan.mask,
            dropout_p=plan.dropout,
            is_causal=plan.kind == "causal",
            scale=plan.scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    return mixed.transpose(1, 2)


def _attend_written_out(q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan) -> Tensor:
    """No fused kernel of torch caps its scores, softcap * tanh(scores / softcap); and on the CPU a row's bits depend
    there on the thread that computes it."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if plan.scale is None else plan.scale
    scores = (q @ k.transpose(-2, -1)).float() * scale
    if plan.softcap is not None:
        scores = plan.softcap * torch.tanh(scores / plan.softcap)
    mask = plan.mask if plan.mask is not None else causal_mask(q.shape[2], None, None, q.device)
    shares = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return F.dropout(shares, plan.dropout, training=plan.dropout > 0).to(v.dtype) @ v


@torch.compiler.disable  # traced, each layout of documents would be compiled anew
def _attend_documents(query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan) -> Tensor:
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))  # (B T, heads, width)
    if q.device.type != "cpu":
        return _attend_runs(q, k, v, plan).view(query.shape)
    if q.dtype in (torch.bfloat16, torch.float16):  # in bf16 the CPU's own backward pass takes five times as long
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast("cpu", enabled=False):
        if plan.written_out:
            mixed = CausalAttention.apply(q, k, v, plan.runs, plan.window, plan.scale)
        else:
            mixed = _attend_runs(q, k, v, plan)
    return mixed.view(query.shape).to(query.dtype)


def _attend_runs(q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan) -> Tensor:
    """Run by run: the short ones written out, the long ones, or with dropout, by the fused kernel."""
    parts, end = [], 0
    for run in plan.runs:
        parts.append(q.new_zeros((run.start - end, *q.shape[1:])))  # padding
        end = run.tokens.stop
        own = q[run.tokens], k[run.tokens], v[run.tokens]
        if q.device.type == "cpu" and not plan.dropout and run.length <= LONGEST:
            parts.append(CausalAttention.apply(*own, (replace(run, start=0),), plan.window, plan.scale))
        else:
            parts.append(_attend_run(*own, run, plan))
    parts.append(q.new_zeros((len(q) - end, *q.shape[1:])))
    return torch.cat(parts)


def _attend_run(q: Tensor, k: Tensor, v: Tensor, run: Run, plan: AttentionPlan) -> Tensor:
    """Documents of one length by the fused kernel."""
    narrow = plan.window is not None and plan.window < run.length
    q, k, v = (x.unflatten(0, (run.count, run.length)).transpose(1, 2) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=causal_mask(run.length, None, plan.window, q.device) if narrow else None,
        dropout_p=plan.dropout,
        is_causal=not narrow,
        scale=plan.scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return mixed.transpose(1, 2).flatten(0, 1)


def _require_cuda(kind: str, device: torch.device) -> None:
    if device.type != "cuda":
        raise ValueError(f"attention: {kind} runs on CUDA only, and this is {device.type}; use attention: auto")


def _block_mask(batch: int, time: int, documents: Tensor | None, window: int | None, device: torch.device) -> Any:
    _require_cuda("flex", device)
    from torch.nn.attention.flex_attention import create_block_mask

    def allowed(b: Tensor, _: Tensor, q: Tensor, k: Tensor) -> Tensor:
        keep = q >= k
        if window is not None:
            keep = keep & (q - k < window)
        if documents is not None:
            keep = keep & (documents[b, q] == documents[b, k])
        return keep

    rows = None if documents is None else batch
    return create_block_mask(allowed, rows, None, time, time, device=str(device))


_compiled_flex: Any = None


def _attend_flex(q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    global _compiled_flex
    if plan.dropout:
        raise ValueError("attention: flex has no dropout; set model.dropout to 0 or use attention: sdpa")
    if _compiled_flex is None:  # uncompiled it would build all scores
        _compiled_flex = torch.compile(flex_attention, dynamic=False)
    softcap = plan.softcap or 1.0

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    change = None if plan.softcap is None else capped
    gqa = q.shape[1] != k.shape[1]
    return _compiled_flex(q, k, v, change, block_mask=plan.block_mask, scale=plan.scale, enable_gqa=gqa)


def _plan_varlen(
    plan: AttentionPlan, batch: int, time: int, documents: Tensor | None, device: torch.device
) -> AttentionPlan:
    _require_cuda("varlen", device)
    if plan.softcap is not None or plan.dropout:
        raise ValueError("attention: varlen has neither attention_softcap nor dropout; use attention: sdpa or flex")
    if documents is None:
        plan.boundaries = torch.arange(0, batch * time + 1, time, dtype=torch.int32, device=device)
    else:
        starts = torch.ones_like(documents, dtype=torch.bool)
        starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
        ends = torch.tensor([batch * time], device=device)
        plan.boundaries = torch.cat((starts.flatten().nonzero().squeeze(1), ends)).to(torch.int32)
    plan.longest = time  # a bound will do, and the exact one would wait for the device
    return plan


def _attend_varlen(query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    assert plan.boundaries is not None

    if query.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"attention: varlen needs bf16, not {query.dtype}; set training.mixed_precision: bf16")
    groups = query.shape[2] // key.shape[2]
    if groups > 1:  # torch 2.11 has no enable_gqa here
        key, value = (x.repeat_interleave(groups, dim=2) for x in (key, value))
    left = -1 if plan.window is None else plan.window - 1
    mixed = varlen_attn(
        query.flatten(0, 1),
        key.flatten(0, 1),
        value.flatten(0, 1),
        plan.boundaries,
        plan.boundaries,
        plan.longest,
        plan.longest,
        **_varlen_arguments(left, plan.scale),
    )
    assert isinstance(mixed, Tensor)
    return mixed.view(query.shape)


def _varlen_arguments(left: int, scale: float | None) -> dict[str, Any]:
    """Causality is `window_size=(left, 0)`; releases that still have `is_causal` take it under that name."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    names = inspect.signature(varlen_attn).parameters
    if scale is not None and "scale" not in names:
        raise ValueError("attention: varlen of this torch has no attention_scale; use attention: flex")
    scaled = {} if scale is None else {"scale": scale}
    if "window_size" in names:
        return {"window_size": (left, 0), **scaled}
    if left != -1:
        raise ValueError("attention: varlen of this torch has no sliding window; use attention: flex")
    return {"is_causal": True, **scaled}
