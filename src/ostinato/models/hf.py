"""Any causal language model of transformers, as a model that every algorithm accepts.

Its modules, and so the names of its parameters, are those of the AutoModelForCausalLM; its forward pass goes through
our head, so that logits of the whole vocabulary never exist. B batch, T time, V vocabulary, D width, N trained tokens.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ostinato.core import seeding
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from ostinato.models.hf_config import body, build_causal, logit_scale, logit_softcap, read_config, written_config
from ostinato.models.hf_documents import apart, restarting
from ostinato.models.hf_examination import examine
from ostinato.models.hf_files import from_files, to_files
from ostinato.models.language_model import LanguageModel


@MODELS.register("hf")
class HF(LanguageModel):
    """Any causal language model that transformers has (pip install 'ostinato[hf]'), by its config.json.

    `config` is the whole config.json; without a vocab_size in it, and where the tokenizer has more tokens, the
    vocabulary is the tokenizer's. Weights are fp32 and start as transformers starts them. Models with code of their
    own (auto_map), quantised weights or an encoder are refused. `attention` sdpa is eager where the model has no sdpa.
    Documents packed in a row are told apart by positions, or computed one by one where a model is blind to them.
    `output` scalar: one number per token instead of log-probs, as reward and value models give it; both: beside them.
    """

    causal: Any
    keeps: tuple[int, int, int] | None  # layers, heads and width of its keys, where it can go on from them

    def __init__(
        self,
        inputs: ModelInputs,
        *,
        config: dict[str, Any],
        attention: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] = "sdpa",
        output: Literal["tokens", "scalar", "both"] = "tokens",
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"config": config, "attention": attention, "output": output}
        self.known = read_config(config, inputs.vocab_size)
        causal = build_causal(self.known, attention)
        self.__dict__["causal"] = causal  # not a submodule: its submodules are ours
        for name, module in causal.named_children():
            self.add_module(name, module)
        self.body_name, self.head_name = _place(causal, body(causal)), _place(causal, causal.get_output_embeddings())
        missing = {name for name, _ in causal.named_parameters()} - {name for name, _ in self.named_parameters()}
        if not self.body_name or not isinstance(self._head, nn.Linear) or missing:
            raise ValueError(f"config: {type(causal).__name__} has no body and linear head of its own.")
        text = causal.config.get_text_config()
        self.vocab_size, width = self._head.out_features, self._head.in_features
        self.inputs = ModelInputs(self.vocab_size, inputs.sequence_length)
        self.max_positions = getattr(text, "max_position_embeddings", None) or inputs.sequence_length
        if inputs.sequence_length > self.max_positions and self._learns_positions():
            longest = f"learned positions for {self.max_positions} tokens, data.sequence_length is"
            raise ValueError(f"config: {longest} {inputs.sequence_length}. Lower that.")
        self.logit_scale, self.logit_softcap = logit_scale(causal), logit_softcap(causal)
        self.takes_positions = "position_ids" in inspect.signature(self._body.forward).parameters
        self.output, self.attention = output, attention
        embedding = causal.get_input_embeddings()
        if getattr(embedding, "padding_idx", None) is not None:
            embedding.padding_idx = None  # the row of the padding token learns too: it may be the one that ends a text
        self.score = None if output == "tokens" else nn.Linear(width, 1, bias=False)
        if output == "scalar":  # what a reward model's held-out rewards were like, as in the transformer
            self.reward_mean, self.reward_std = (nn.Parameter(torch.empty(1), requires_grad=False) for _ in range(2))
            parent, _, leaf = self.head_name.rpartition(".")
            delattr(self.get_submodule(parent), leaf)

    def _learns_positions(self) -> bool:
        """Whether there is a table of positions (OPT's has two rows more), behind which nothing can be read."""
        tables = {one.num_embeddings for one in self.modules() if isinstance(one, nn.Embedding)}
        return bool((tables - {self.vocab_size}) & {self.max_positions, self.max_positions + 2})

    @property
    def heads(self) -> tuple[str, ...]:
        """The weights that models of other outputs have or lack."""
        return *(f"{self.head_name}.{one}" for one in ("weight", "bias")), "score.weight", "reward_mean", "reward_std"

    @property
    def _body(self) -> nn.Module:
        """The model without its head: tokens to the hidden states behind the last norm."""
        return self.get_submodule(self.body_name)

    @property
    def _head(self) -> nn.Module:
        return self.get_submodule(self.head_name)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @functools.cached_property
    def packs(self) -> bool:
        """Whether documents of a row are told apart by positions; found out with the first tokens that it reads."""
        return examine(self)

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        *,
        rows: Tensor | None = None,
        cache: Any = None,
        last_only: bool = False,
    ) -> Tensor:
        """What the head reads, after the last norm: (B, T, D), or (N, D) at the flat indices `rows` (N,).

        Where the head has a bias, D is one wider: a column of ones that reads it. `positions` are those of `documents`,
        else 0, 1, 2, ...; only a `cache` needs them.
        """
        packs = self.packs
        if cache is not None:
            x = self._body(input_ids=tokens, **cache.arguments(positions)).last_hidden_state
        elif documents is None:
            x = self.states(tokens)
        else:
            x = self.packed(tokens, documents) if packs else self.apart(tokens, documents)
        if last_only:
            x = x[:, -1:]
        elif rows is not None:
            x = x.flatten(0, 1).index_select(0, rows)
        return self._with_ones(x)

    def states(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """(B, T, D) of rows that are one document each, or of documents whose `positions` (B, T) start again."""
        extra = {} if positions is None else {"position_ids": positions}
        found: Tensor = self._body(input_ids=tokens, **extra).last_hidden_state
        return found

    def packed(self, tokens: Tensor, documents: Tensor) -> Tensor:
        """(B, T, D) of documents (B, T) side by side."""
        positions = restarting(documents)
        if self.attention.startswith("flash"):  # which tells documents apart in a single row alone
            return self.states(tokens.view(1, -1), positions.view(1, -1)).view(*tokens.shape, -1)
        return self.states(tokens, positions)

    def apart(self, tokens: Tensor, documents: Tensor) -> Tensor:
        """(B, T, D) of documents (B, T) in a row of their own each."""
        return apart(self.states, tokens, documents)

    def logits_of(self, states: Tensor) -> Tensor:
        """Logits (B, T, V) of what `states` gives."""
        return self._logits(self._with_ones(states), self.output_weight, 1.0)

    @property
    def output_weight(self) -> Tensor:
        """The head's weight, (V, D); where it has a bias, that is the last column, (V, D + 1)."""
        head: Any = self._head
        return head.weight if head.bias is None else torch.cat((head.weight, head.bias[:, None]), 1)

    def _with_ones(self, x: Tensor) -> Tensor:
        if self.output == "scalar" or self._head.bias is None:
            return x
        return torch.cat((x, x.new_ones(*x.shape[:-1], 1)), -1)

    def _scalars(self, x: Tensor) -> Tensor:
        assert self.score is not None
        return super()._scalars(x[..., : self.score.in_features])

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Memory for the weights; what is computed from the config alone (rotary angles) is there at once."""
        super().to_empty(device=device, recurse=recurse)
        self.causal.tie_weights()
        for name, buffer in self.named_buffers():
            self._start(name, value := torch.zeros(buffer.shape, dtype=buffer.dtype))
            buffer.copy_(value)
        return self

    def initial_value(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The value a parameter starts from, fp32 on the CPU; `generator` is its own."""
        if name in ("reward_mean", "reward_std"):
            return torch.zeros(shape)
        if name == "score.weight":
            std = getattr(self.known.get_text_config(), "initializer_range", None) or 0.02
            return torch.empty(shape).normal_(0.0, std, generator=generator)
        with seeding.preserved_global():
            seeding.reset_global(generator.initial_seed())
            self._start(name, value := torch.zeros(shape))
        return value

    @torch.no_grad()
    def _start(self, name: str, value: Tensor) -> None:
        """Fill `value` as transformers starts the parameter or buffer: by the rules of its module and those around."""
        model = self._skeleton
        path, _, leaf = name.rpartition(".")
        around = [model.get_submodule(path)]
        own = around[0]._parameters if leaf in around[0]._parameters else around[0]._buffers
        while path:
            path = path.rpartition(".")[0]
            around.append(model.get_submodule(path))
        before, own[leaf] = own[leaf], nn.Parameter(value) if own is around[0]._parameters else value
        try:
            for place, module in enumerate(around):
                rules = next(one for one in around[place:] if hasattr(one, "_init_weights"))
                rules._init_weights(module)
        except NotImplementedError as error:  # it reads other weights, of which there are none
            raise UserError(f"model hf: {type(model).__name__} does not start its weights one by one.") from error
        finally:
            own[leaf] = before

    @functools.cached_property
    def _skeleton(self) -> Any:
        """The model without memory, whose rules fill one tensor at a time."""
        with torch.device("meta"):
            return build_causal(self.known, self.attention)

    def from_files(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a folder of Hugging Face by the names of this model's own; of the vocabulary those there."""
        return from_files(type(self.causal), read_config(self.options["config"], 0), found)

    def to_files(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This model's tensors by the names, and in the forms, that files of Hugging Face have."""
        return to_files(self._skeleton, found)

    def decoding(self, slots: int, length: int) -> Any:
        """What goes on token by token, for `ostinato.generation`; None where keys and values do not suffice."""
        from ostinato.models.hf_decoding import decoding

        return decoding(self, slots, length)

    def blocks(self) -> list[nn.Module]:
        """The repeated layers: what is compiled, recomputed and sharded one by one."""
        lists = [(name.count("."), one) for name, one in self.named_modules() if isinstance(one, nn.ModuleList)]
        return list(min(lists, key=lambda found: (found[0], -len(found[1])))[1]) if lists else [self._body]

    def set_checkpointing(self, on: bool) -> None:
        """Recompute each block's activations in the backward pass."""
        if not self.causal.supports_gradient_checkpointing:
            raise UserError(
                f"training.gradient_checkpointing: {type(self.causal).__name__} cannot recompute its blocks."
            )
        kind = "activation" if hasattr(self.causal, "activation_checkpointing_enable") else "gradient"
        if on:
            getattr(self.causal, f"{kind}_checkpointing_enable")({"use_reentrant": False})
        else:
            getattr(self.causal, f"{kind}_checkpointing_disable")()

    def hf_config(self) -> dict[str, Any] | None:
        """config.json for transformers."""
        return written_config(self.options["config"], self.causal) if self.output == "tokens" else None

    def config_dict(self) -> dict[str, Any]:
        """What builds this model again: name, inputs, options."""
        inputs = {"vocab_size": self.inputs.vocab_size, "sequence_length": self.inputs.sequence_length}
        return {"name": "hf", **inputs, **self.options}


def _place(model: nn.Module, part: Any) -> str:
    """The name of a submodule; empty where there is none."""
    return next((name for name, one in model.named_modules() if one is part), "")
