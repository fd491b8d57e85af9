"""One token for every slot through a plain transformer, in as few operations as that takes.

The modules' own formulas on weights laid out for it: query, key and value are one product, gate and up another, a
residual is added by the product that ends in it. The laid-out weights are copies, made from the live ones when decoding
begins and gone when it ends.
W slots in use, D width, H heads, G key-value heads, R = H / G, S cached positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostinato.models.attention import AttentionPlan, attend, plan_attention
from ostinato.models.blocks import MLP, Attention, Block, Norm
from ostinato.models.cpu_block import ONEDNN
from ostinato.models.decoding import CachedDecoding, compute_dtype

if TYPE_CHECKING:
    from ostinato.models.transformer import Transformer

PROMPT_UNIT = 16  # tokens: oneDNN compiles anew for each number of them
TOGETHER = 512  # tokens of prompts in one row


def is_plain(model: Transformer) -> bool:
    """Whether every part that decoding goes through is what it seems: nothing wrapped, hooked or sharded.

    A projection of another class may offer `merged_weight()`, the one matrix (out, in) that it amounts to, and `bias`.
    """
    own = (Block, Attention, MLP, Norm, nn.Linear, nn.Embedding, nn.ModuleList)
    parts = [part for part in (*model.model.modules(), model.lm_head) if part is not None]
    parts.remove(model.model)
    for part in [*parts]:
        if hasattr(part, "merged_weight"):
            inner = set(part.modules())
            parts = [other for other in parts if other not in inner]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in parts)
    sharded = any(type(weight) is not nn.Parameter or hasattr(weight, "placements") for weight in weights)
    return all(type(part) in own for part in parts) and not hooked and not sharded


def matrix(projection: nn.Module) -> Tensor:
    """A projection's weight, (out, in)."""
    merged = getattr(projection, "merged_weight", None)
    weight = projection.weight if merged is None else merged()
    assert isinstance(weight, Tensor)
    return weight.detach()


class Product:
    """x @ weight.T + bias. On the CPU in fp32 by oneDNN on a packed weight: the same bits for any two rows or more."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        self.onednn = weight.device.type == "cpu" and weight.dtype == torch.float32 and ONEDNN
        packed = self.onednn and rows > 1  # for one row alone it makes no difference
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows) if packed else weight
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        if self.onednn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + product."""
        if self.onednn:
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return residual + self(x)


def normaliser(norm: Norm) -> Callable[[Tensor], Tensor]:
    """What a norm does, without gradients; in its weight's dtype, whatever x has."""
    weight = norm.factors.detach()
    same = _normaliser(norm, weight)
    return lambda x: same(x) if x.dtype == weight.dtype else same(x.to(weight.dtype)).to(x.dtype)


def _normaliser(norm: Norm, weight: Tensor) -> Callable[[Tensor], Tensor]:
    bias, shape, eps = norm.bias, norm.shape, norm.eps
    if norm.kind == "layer":
        return lambda x: F.layer_norm(x, shape, weight, bias, eps)
    if weight.device.type != "cpu":
        return lambda x: F.rms_norm(x, shape, weight, eps) if bias is None else F.rms_norm(x, shape, weight, eps) + bias
    constant, share = torch.tensor(eps, dtype=weight.dtype), 1 / shape[0]

    def root_mean_square(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        normed = (x * torch.addcmul(constant, length, length, value=share).rsqrt_()).mul_(weight)
        return normed if bias is None else normed.add_(bias)

    return root_mean_square


class FusedLayer:
    """The weights of a block, laid out: for each group its R query heads, then its key and its value head."""

    def __init__(self, block: Block, groups: int, width: int, dtype: torch.dtype, rows: int) -> None:
        attention, mlp = block.self_attn, block.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)

        def grouped(parts: list[Tensor]) -> Tensor:
            return torch.cat([part.view(groups, -1, width, *part.shape[1:]) for part in parts], 1).flatten(0, 2)

        def product(weight: Tensor, bias: Tensor | None) -> Product:
            return Product(weight.to(dtype), None if bias is None else bias.detach().to(dtype), rows)

        biases = [projection.bias for projection in projections]
        bias = None if biases[0] is None else grouped([one.detach() for one in biases])
        norms = [block.norm_at(place) for place in range(4)] + [attention.q_norm, attention.k_norm]
        (self.norm, self.out_norm, self.mlp_norm, self.down_norm, self.query_norm, self.key_norm) = (
            None if one is None else normaliser(one) for one in norms
        )
        self.windowed = attention.windowed
        self.normed_whole = attention.q_norm is not None and attention.q_norm.shape != (width,)  # all heads as one
        self.query_key_value = product(grouped([matrix(projection) for projection in projections]), bias)
        self.out = product(matrix(attention.o_proj), attention.o_proj.bias)
        ups = [mlp.up_proj] if mlp.gate_proj is None else [mlp.gate_proj, mlp.up_proj]
        bias = None if ups[0].bias is None else torch.cat([up.bias.detach() for up in ups])
        self.up = product(torch.cat([matrix(up) for up in ups]), bias)
        self.down = product(matrix(mlp.down_proj), mlp.down_proj.bias)
        self.gated, self.kind = mlp.gate_proj is not None, mlp.kind

    def attended(self, x: Tensor, mixed: Tensor) -> Tensor:
        """x + o(mixed), normed where a norm stands behind."""
        return self.out.onto(x, mixed) if self.out_norm is None else x + self.out_norm(self.out(mixed))

    def feed_forward(self, x: Tensor) -> Tensor:
        """x + mlp(norm x), normed where a norm stands behind."""
        inner = self.up(x if self.mlp_norm is None else self.mlp_norm(x))
        gate, up = inner.chunk(2, -1) if self.gated else (inner, None)
        if self.kind == "swiglu":
            active = F.silu(gate)
        else:
            active = F.gelu(gate, approximate="tanh" if self.kind.endswith("tanh") else "none")
        active = active if up is None else active.mul_(up)
        return self.down.onto(x, active) if self.down_norm is None else x + self.down_norm(self.down(active))


class FusedDecoding(CachedDecoding):
    """As CachedDecoding, faster. Sums are fp32 on the CPU whatever the products are computed in."""

    capturable = True

    def __init__(self, model: Transformer, slots: int, length: int) -> None:
        embedding = model.model.embed_tokens.weight.detach()
        self.dtype = compute_dtype(embedding)
        on_cpu = embedding.device.type == "cpu"
        super().__init__(model, slots, length, embedding.dtype if on_cpu else self.dtype)
        shape = model.shape
        self.groups, self.repeat, self.width = shape.kv_heads, shape.heads // shape.kv_heads, shape.head_width
        self._views: tuple[tuple[int, int], Tensor, list[tuple[Tensor, Tensor]]] | None = None
        self.embedding, self.final_norm = embedding, normaliser(model.model.norm)
        table = model.model.embed_positions
        self.positions = None if table is None else table.weight.detach()
        blocks = [block for block in model.model.layers if isinstance(block, Block)]
        self.layers = [FusedLayer(block, self.groups, self.width, self.dtype, slots) for block in blocks]
        head = embedding if model.lm_head is None else matrix(model.lm_head)
        self.head = head.to(self.dtype)
        self.packed_head = Product(self.head.to(embedding.dtype), None, slots) if on_cpu else None
        self.penalties = torch.tensor(0.0, dtype=embedding.dtype), torch.tensor(-torch.inf, dtype=embedding.dtype)
        self.embedding_scale = model.embedding_scale(embedding.dtype)
        self.windows = {windowed: model.window if windowed else None for windowed in model.kinds}
        self.tables: dict[bool, tuple[Tensor, Tensor]] = {}
        for windowed in model.kinds:
            rope = model.local_rope if windowed else model.rope
            if rope is not None:
                cosine, sine = rope.rows(length, embedding.device)
                self.tables[windowed] = torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)

    def read(self, prompts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Prompts, (T,) each: the last logits (V,) fp32 of each, and its keys and values for `place`.

        On the CPU short ones go through the products together, as documents of one row.
        """
        found: list[tuple[Tensor, Tensor]] = []
        together: list[Tensor] = []
        limit = TOGETHER if self.device.type == "cpu" else 0
        with torch.autocast(self.device.type, enabled=False):
            for prompt in prompts:
                if together and sum(map(len, together)) + len(prompt) > limit:
                    found += self._read(together)
                    together = []
                together.append(prompt)
            return found + self._read(together)

    def _read(self, prompts: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        lengths = [len(prompt) for prompt in prompts]
        tokens, positions, documents, ends = self._row(prompts)
        x, turns = self._begin(tokens, positions)
        plans = {windowed: self._plan(len(tokens), documents, window) for windowed, window in self.windows.items()}
        kept = []
        for layer in self.layers:
            heads = self._heads(layer, x, turns.get(layer.windowed)).view(len(x), self.groups, -1, self.width)
            kept.append(heads[:, :, self.repeat :].permute(2, 1, 0, 3).contiguous())  # (2, G, N, width)
            queries, keys, values = heads[:, :, : self.repeat].flatten(1, 2), *heads[:, :, self.repeat :].unbind(2)
            mixed = attend(queries[None], keys[None], values[None], plans[layer.windowed])[0].flatten(1)  # (N, H width)
            if layer is self.layers[-1]:
                x, mixed = x.index_select(0, ends), mixed.index_select(0, ends)
            x = layer.feed_forward(layer.attended(x, mixed))
        logits = self._logits(self.final_norm(x))[: len(prompts)]
        states = torch.stack(kept)[:, :, :, : sum(lengths)].split(lengths, 3)
        return list(zip(logits, states, strict=True))

    def _plan(self, tokens: int, documents: Tensor | None, window: int | None) -> AttentionPlan:
        facts: Any = {"softcap": self.model.attention_softcap, "scale": self.model.attention_scale}
        return plan_attention("auto", (1, tokens), documents, self.device, window=window, **facts)

    def _row(self, prompts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Tokens of the prompts one after the other, positions, whose they are, and where each ends.

        On the CPU with padding behind; and never a single end, as a product of one row has bits of its own.
        """
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        positions = torch.cat([torch.arange(len(prompt)) for prompt in prompts])
        ends = lengths.cumsum(0) - 1
        if self.device.type != "cpu":
            return torch.cat(prompts), positions.to(self.device), None, ends.to(self.device)
        unit = PROMPT_UNIT if len(positions) <= 8 * PROMPT_UNIT else 4 * PROMPT_UNIT
        padding = (0, -len(positions) % unit)
        documents = F.pad(torch.arange(len(prompts)).repeat_interleave(lengths), padding, value=-1)
        ends = torch.cat((ends, ends)) if len(ends) == 1 else ends
        return F.pad(torch.cat(prompts), padding), F.pad(positions, padding), documents[None], ends

    def step(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """Logits (W, V) fp32 after one more token (W,) in slots that hold `lengths` (W,), below `longest`, so far."""
        if not torch.is_autocast_enabled(self.device.type):
            return self._step(tokens, lengths, longest)
        with torch.autocast(self.device.type, enabled=False):
            return self._step(tokens, lengths, longest)

    def _step(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        self.cache.fit(longest)
        x, turns = self._begin(tokens, lengths)
        rows = self.cache.rows(lengths).flatten(0, 1)
        seen = {windowed: self._seen(lengths, longest, window) for windowed, window in self.windows.items()}
        cached = self._cached(len(tokens), longest)
        for number, layer in enumerate(self.layers):
            heads = self._heads(layer, x, turns.get(layer.windowed))
            self.cache.write(number, rows, heads.narrow(1, self.repeat, 2))
            mixed = self._attend(heads.narrow(1, 0, self.repeat), *cached[number], seen[layer.windowed])
            x = layer.feed_forward(layer.attended(x, mixed.view(len(x), -1)))
        return self._logits(self.final_norm(x))

    def _seen(self, lengths: Tensor, longest: int, window: int | None) -> Tensor:
        """As `seen`; on the CPU what is added to scores, (W G, R, longest)."""
        seen = self.seen(lengths, longest, window)
        if self.device.type != "cpu":
            return seen
        return torch.where(seen, *self.penalties).expand(-1, self.groups, self.repeat, -1).flatten(0, 1)

    def _cached(self, slots: int, longest: int) -> list[tuple[Tensor, Tensor]]:
        """Each layer's keys and values of the first slots, (W G, longest, width): views, kept until others are due."""
        if self._views is None or self._views[0] != (slots, longest) or self._views[1] is not self.cache.all:
            parts = (self.cache.read(layer, slots, longest) for layer in range(len(self.layers)))
            views = [(keys.flatten(0, 1), values.flatten(0, 1)) for keys, values in parts]
            self._views = (slots, longest), self.cache.all, views
        return self._views[2]

    def _begin(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, dict[bool, tuple[Tensor, Tensor]]]:
        """Tokens (N,) at their positions as vectors (N, D), and how each kind of layer turns heads, (N G, 1, width)."""
        x = self.embedding.index_select(0, tokens)
        if self.embedding_scale != 1.0:
            x = x * self.embedding_scale
        if self.positions is not None:
            x = x + self.positions.index_select(0, positions)
        if not self.tables:
            return x, {}
        each = positions.repeat_interleave(self.groups)
        rows = {
            windowed: (cosine.index_select(0, each).unsqueeze(1), sine.index_select(0, each).unsqueeze(1))
            for windowed, (cosine, sine) in self.tables.items()
        }
        return x, rows

    def _heads(self, layer: FusedLayer, x: Tensor, turns: tuple[Tensor, Tensor] | None) -> Tensor:
        """(N G, R + 2, width): for each group its query heads, its key and its value, normed and turned."""
        heads = layer.query_key_value(x if layer.norm is None else layer.norm(x)).view(-1, self.repeat + 2, self.width)
        if layer.query_norm is not None and layer.key_norm is not None:
            if layer.normed_whole:
                apart = heads.view(-1, self.groups, self.repeat + 2, self.width)
                queries, keys = apart.narrow(2, 0, self.repeat), apart.narrow(2, self.repeat, 1)
                queries.copy_(layer.query_norm(queries.flatten(1)).view(queries.shape))
                keys.copy_(layer.key_norm(keys.flatten(1)).view(keys.shape))
            else:
                queries, keys = heads.narrow(1, 0, self.repeat), heads.narrow(1, self.repeat, 1)
                queries.copy_(layer.query_norm(queries))
                keys.copy_(layer.key_norm(keys))
        if turns is not None:
            turned = heads.narrow(1, 0, self.repeat + 1).narrow(2, 0, turns[0].shape[-1])
            first, second = turned.chunk(2, -1)
            swapped = torch.cat((second, first), -1)
            turned.mul_(turns[0]).addcmul_(swapped, turns[1])
        return heads.to(self.cache.all.dtype)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
        """(W G, R, width) of queries, (W G, longest, width) of keys and values -> what each head takes in."""
        softcap, scale = self.model.attention_softcap, self.model.attention_scale
        if scale is None:
            scale = self.width**-0.5
        if softcap is None and self.device.type == "cpu":
            return torch.bmm(torch.baddbmm(seen, queries, keys.transpose(1, 2), alpha=scale).softmax(-1), values)
        if softcap is None:
            q, k, v = (heads.unflatten(0, (-1, self.groups)) for heads in (queries, keys, values))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=self.model.attention_scale)
        scores = torch.bmm(queries, keys.transpose(1, 2)).float().mul_(scale / softcap).tanh_().mul_(softcap)
        if self.device.type == "cpu":
            return torch.bmm(scores.add_(seen).softmax(-1).to(values.dtype), values)
        hidden = ~seen.expand(-1, self.groups, -1, -1).flatten(0, 1)
        return torch.bmm(scores.masked_fill_(hidden, -torch.inf).softmax(-1).to(values.dtype), values)

    def _logits(self, x: Tensor) -> Tensor:
        """fp32 whatever the operands are rounded to, as in training."""
        if self.packed_head is not None:
            z = self.packed_head(x.to(self.dtype).to(x.dtype)).float()
        elif self.dtype == torch.float32:
            z = F.linear(x, self.head)
        else:
            z = torch.mm(x.to(self.dtype), self.head.t(), out_dtype=torch.float32)
        softcap, scale = self.model.logit_softcap, self.model.logit_scale
        if softcap is not None:
            return z.mul_(scale / softcap).tanh_().mul_(softcap)
        return z if scale == 1.0 else z.mul_(scale)
