"""A decoder-only transformer in the shapes of Llama, Qwen, Mistral, Gemma, Phi-3, OLMo-2 and GPT-2, by options.

Parameters bear the names of transformers' LlamaForCausalLM, so that a state dict goes either way unchanged.
B batch, T time, V vocabulary, N trained tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from ostinato.models.attention import AttentionPlan, plan_attention
from ostinato.models.blocks import Cache, Context, Decoder, Shape, Sight
from ostinato.models.decoding import CachedDecoding, decoding, miniature
from ostinato.models.family import hf_config
from ostinato.models.language_model import LanguageModel
from ostinato.models.rope import RopeOptions, RopeTables, text_lengths


@MODELS.register("transformer")
class Transformer(LanguageModel):
    """A decoder-only transformer: Llama, Qwen, Mistral, Gemma, Phi-3, OLMo-2 or GPT-2 shapes by options.

    `window` counts the keys a token sees, its own included, in the layers of `window_layers` (null: all);
    `rope_local_base` is their base of rotary angles, never stretched (null: as in the others). `norm_placement`: before
    attention and feed-forward, after them (OLMo-2) or both (Gemma). `norm_offset` is added to the norms' weights,
    `scaled_embeddings` multiplies embeddings by sqrt(width). `attention_scale` null: 1 / sqrt(head_width).
    `qk_norm_over` heads: all heads of a token as one vector. `rope_fraction` of a head is turned. `rope_scaling`
    longrope (arXiv:2402.13753): angles are divided by `rope_short_factors` in texts of up to `rope_original_length`
    tokens, by `rope_long_factors` in longer ones. `max_positions` (null: the data's sequence_length) is the
    context of generation and the length of learned positions. `mlp_width` null: 4 x width, or 8/3 x width rounded up to
    a multiple of 64 when gated. Weights start normal with `init_std`, those that write to the residual stream divided
    by sqrt(2 x layers) (GPT-2), norms at 1, biases at 0. `output` scalar: one number per token instead of log-probs, as
    reward and value models give it; both: beside them. Algorithms that train such a model set it. `family`: as what
    the model is written for transformers, e.g. phi3; null: the first family that computes the same.
    """

    heads = ("lm_head.weight", "score.weight", "reward_mean", "reward_std")  # what models of other outputs have or lack

    def __init__(
        self,
        inputs: ModelInputs,
        *,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
        kv_heads: int | None = None,
        head_width: int | None = None,
        mlp_width: int | None = None,
        mlp: Literal["swiglu", "geglu", "geglu_tanh", "gelu", "gelu_tanh"] = "swiglu",
        norm: Literal["rms", "layer"] = "rms",
        norm_eps: float = 1e-5,
        norm_placement: Literal["before", "after", "both"] = "before",
        norm_offset: float = 0.0,
        scaled_embeddings: bool = False,
        positions: Literal["rope", "learned", "none"] = "rope",
        max_positions: int | None = None,
        rope_base: float = 10000.0,
        rope_local_base: float | None = None,
        rope_fraction: float = 1.0,
        rope_scaling: Literal["none", "linear", "dynamic", "yarn", "llama3", "longrope"] = "none",
        rope_factor: float = 1.0,
        rope_original_length: int | None = None,
        rope_low_frequency_factor: float = 1.0,
        rope_high_frequency_factor: float = 4.0,
        rope_beta_fast: float = 32.0,
        rope_beta_slow: float = 1.0,
        rope_attention_factor: float | None = None,
        rope_short_factors: list[float] | None = None,
        rope_long_factors: list[float] | None = None,
        qk_norm: bool = False,
        qk_norm_over: Literal["head", "heads"] = "head",
        qkv_bias: bool = False,
        output_bias: bool = False,
        mlp_bias: bool = False,
        norm_bias: bool = False,
        tied_embeddings: bool = False,
        window: int | None = None,
        window_layers: list[int] | None = None,
        attention: Literal["auto", "sdpa", "documents", "flex", "varlen"] = "auto",
        attention_softcap: float | None = None,
        attention_scale: float | None = None,
        logit_softcap: float | None = None,
        logit_scale: float = 1.0,
        dropout: float = 0.0,
        init_std: float = 0.02,
        output: Literal["tokens", "scalar", "both"] = "tokens",
        family: str | None = None,
    ) -> None:
        super().__init__()
        options = {name: value for name, value in locals().items() if name not in ("self", "inputs", "__class__")}
        if width % heads and head_width is None:
            raise ValueError(f"width {width} is no multiple of heads {heads}; set head_width")
        if heads % (kv_heads or heads):
            raise ValueError(f"heads {heads} is no multiple of kv_heads {kv_heads}")
        if window is None and (window_layers or rope_local_base):
            raise ValueError("window_layers and rope_local_base are of layers with a window; set window")
        if not set(range(layers)).issuperset(window_layers or ()):
            raise ValueError(f"window_layers {window_layers}: the layers are 0 to {layers - 1}")
        gated = "glu" in mlp
        shape = Shape(
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads or heads,
            head_width=head_width or width // heads,
            mlp_width=mlp_width or (-(-8 * width // 192) * 64 if gated else 4 * width),
            mlp=mlp,
            norm=norm,
            norm_eps=norm_eps,
            norm_placement=norm_placement,
            norm_offset=norm_offset,
            qk_norm=qk_norm,
            qk_norm_over=qk_norm_over,
            qkv_bias=qkv_bias,
            output_bias=output_bias,
            mlp_bias=mlp_bias,
            norm_bias=norm_bias,
            dropout=dropout,
            window_layers=frozenset(range(layers if window else 0) if window_layers is None else window_layers),
        )
        self.options, self.inputs, self.shape, self.output = options, inputs, shape, output
        self.max_positions = max_positions or inputs.sequence_length
        self.kinds = sorted({layer in shape.window_layers for layer in range(layers)})  # of layers: windowed or not
        self.attention, self.window, self.scaled_embeddings = attention, window, scaled_embeddings
        self.attention_softcap, self.attention_scale = attention_softcap, attention_scale
        self.logit_softcap, self.logit_scale, self.dropout, self.init_std = (
            logit_softcap,
            logit_scale,
            dropout,
            init_std,
        )
        self.checkpointing = False
        self.rope = self.local_rope = None
        if positions == "rope":
            facts = RopeOptions(
                base=rope_base,
                scaling=rope_scaling,
                factor=rope_factor,
                original_length=rope_original_length or self.max_positions,
                low_frequency_factor=rope_low_frequency_factor,
                high_frequency_factor=rope_high_frequency_factor,
                beta_fast=rope_beta_fast,
                beta_slow=rope_beta_slow,
                attention_factor=rope_attention_factor,
                short_factors=tuple(rope_short_factors or ()),
                long_factors=tuple(rope_long_factors or ()),
            )
            if not 0 < rope_fraction <= 1:
                raise ValueError(f"rope_fraction {rope_fraction} is no part of a head; write a number up to 1")
            turned = int(shape.head_width * rope_fraction)
            self.rope = self.local_rope = RopeTables(turned, facts)
            if rope_local_base is not None:
                self.local_rope = RopeTables(turned, RopeOptions(base=rope_local_base))
        self.model = Decoder(inputs.vocab_size, self.max_positions if positions == "learned" else 0, shape)
        self.score = None if output == "tokens" else nn.Linear(width, 1, bias=False)
        if output == "scalar":  # what a reward model's held-out rewards were like, 0 before they are known; not trained
            self.reward_mean, self.reward_std = (nn.Parameter(torch.empty(1), requires_grad=False) for _ in range(2))
        headless = tied_embeddings or output == "scalar"
        self.lm_head = None if headless else nn.Linear(width, inputs.vocab_size, bias=False)

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        *,
        rows: Tensor | None = None,
        cache: Cache | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """What the head reads, after the last norm: (B, T, D), or (N, D) at the flat indices `rows` (N,)."""
        x = self._embed(tokens, positions)
        context = self._context(tokens, positions, documents, cache)
        context.rows = rows
        for block in self.model.layers:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False, preserve_rng_state=True)
            else:
                x = block(x, context)
        return self.model.norm(x[:, -1:] if last_only else x)

    @property
    def output_weight(self) -> Tensor:
        """The head's weight, (V, D): its own, or the embedding's where they are tied."""
        return (self.lm_head or self.model.embed_tokens).weight

    def _embed(self, tokens: Tensor, positions: Tensor | None) -> Tensor:
        x = self.model.embed_tokens(tokens)
        if self.scaled_embeddings:
            x = x * self.embedding_scale(x.dtype)
        table = self.model.embed_positions
        if table is not None:
            plain = positions is None or _plain(positions)
            if plain and tokens.shape[1] > self.max_positions:
                raise ValueError(f"{tokens.shape[1]} tokens in a row, but max_positions is {self.max_positions}")
            x = x + (table.weight[: tokens.shape[1]] if plain else table(positions))
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def _context(
        self, tokens: Tensor, positions: Tensor | None, documents: Tensor | None, cache: Cache | None
    ) -> Context:
        plans: dict[int | None, AttentionPlan] = {}
        turns: dict[RopeTables | None, tuple[Tensor | None, Tensor | None]] = {None: (None, None)}
        sights = {}
        for windowed in self.kinds:
            window = self.window if windowed else None
            if cache is None and window is not None and window >= tokens.shape[1]:
                window = None  # as without
            if window not in plans:
                plans[window] = self._plan(tokens, documents, cache, window)
            rope = self.local_rope if windowed else self.rope
            if rope not in turns and rope is not None:
                turns[rope] = self._turns(rope, tokens, positions, documents)
            sights[windowed] = Sight(plans[window], *turns[rope])
        return Context(sights, cache=cache)

    def _plan(self, tokens: Tensor, documents: Tensor | None, cache: Cache | None, window: int | None) -> AttentionPlan:
        if cache is not None:
            return cache.plan(window, self.attention_softcap, self.attention_scale)
        return plan_attention(
            self.attention,
            (tokens.shape[0], tokens.shape[1]),
            documents,
            tokens.device,
            window=window,
            softcap=self.attention_softcap,
            scale=self.attention_scale,
            dropout=self.dropout if self.training else 0.0,
        )

    def _turns(
        self, rope: RopeTables, tokens: Tensor, positions: Tensor | None, documents: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the tokens' angles."""
        time, device = tokens.shape[1], tokens.device
        plain = positions is None or _plain(positions)
        if rope.options.by_length and not (plain and documents is None):
            at = torch.arange(time, device=device).expand_as(tokens) if positions is None else positions
            tables = rope.of_texts(at, text_lengths(at, documents))
        elif positions is None or plain:
            tables = rope.rows(time, device)
        else:
            cosine, sine = rope.rows(max(self.max_positions, time), device)
            tables = cosine[positions], sine[positions]
        return tables[0].unsqueeze(-2), tables[1].unsqueeze(-2)

    def embedding_scale(self, dtype: torch.dtype) -> float:
        """What embeddings are multiplied with: sqrt(width), rounded to their dtype as transformers does; or 1."""
        if not self.scaled_embeddings:
            return 1.0
        return torch.tensor(self.shape.width**0.5, device="cpu").to(dtype).item()

    def initial_value(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The value a parameter starts from, fp32 on the CPU; `generator` is its own."""
        if name.endswith(".bias") or name in ("reward_mean", "reward_std"):
            return torch.zeros(shape)
        if "norm" in name:
            return torch.full(shape, 1.0 - self.shape.norm_offset)
        std = self.init_std
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            std /= math.sqrt(2 * self.shape.layers)
        return torch.empty(shape).normal_(0.0, std, generator=generator)

    def decoding(self, slots: int, length: int) -> CachedDecoding | None:
        """What goes on token by token in `slots` texts of up to `length` tokens, for `ostinato.generation`."""
        return decoding(self, slots, length)

    def miniature(self) -> Callable[[int | None], Transformer] | None:
        """What makes one random layer of the same shapes; None for a model that is not decoded in the fused way."""
        return miniature(self)

    def blocks(self) -> list[nn.Module]:
        """The repeated layers: what is compiled, recomputed and sharded one by one."""
        return list(self.model.layers)

    def set_checkpointing(self, on: bool) -> None:
        """Recompute each block's activations in the backward pass."""
        self.checkpointing = on

    def hf_config(self) -> dict[str, Any] | None:
        """config.json for transformers, where one of its classes is this very shape under the same names."""
        if self.options["output"] != "tokens":
            return None
        return hf_config(self.options, self.shape, self.inputs.vocab_size, self.max_positions)

    def config_dict(self) -> dict[str, Any]:
        """What builds this model again: name, inputs, options."""
        inputs = {"vocab_size": self.inputs.vocab_size, "sequence_length": self.inputs.sequence_length}
        return {"name": "transformer", **inputs, **self.options}


def _plain(positions: Tensor) -> bool:
    """Whether all rows count 0, 1, 2, ...; asked on the CPU only, where the answer is cheap and spares a gather."""
    if positions.device.type != "cpu":
        return False
    return torch.equal(positions, torch.arange(positions.shape[1]).expand_as(positions))
