"""What every language model has in common: hidden states in, scores, logits, scalars or divergences out.

B batch, T time, V vocabulary, D width, N trained tokens.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostinato.models.blocks import Cache
from ostinato.models.divergence_head import DivergenceScores, Teacher, divergence_scores
from ostinato.models.head import TokenScores, token_scores, trained_indices


class LanguageModel(nn.Module):
    """A model by its `hidden` states and the `output_weight` that reads them; both are a subclass's to define.

    `score` is the scalar head, None without one; with output `scalar` it is the only head.
    """

    output: str
    score: nn.Linear | None
    logit_softcap: float | None
    logit_scale: float

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
        raise NotImplementedError

    @property
    def output_weight(self) -> Tensor:
        """The head's weight, (V, D)."""
        raise NotImplementedError

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        trained: Tensor | None = None,
        cache: Cache | None = None,
        temperature: float = 1.0,
        want: Set[str] = frozenset(),
        last_only: bool = False,
        teacher: Teacher | None = None,
    ) -> TokenScores | DivergenceScores | Tensor:
        """TokenScores of the labels that are not IGNORE, or without `labels` the logits, (B, T, V) fp32.

        tokens, positions, documents, labels (B, T); labels are shifted already. `documents` None: a row is one document
        that starts at column 0. `trained` (N,): flat indices of the trained labels, made from labels when None.
        `last_only`: logits of the last column, (B, 1, V). `temperature` divides the logits of both. With scalar output:
        one number per token, (B, T) fp32, or at the columns `trained` alone, (N,). `teacher`, made by the teacher's
        `as_teacher` of the same trained labels: DivergenceScores from it, with the log_probs that `want` may name.
        """
        if labels is not None and trained is None:
            trained = trained_indices(labels)
        every = trained is None or trained.numel() == tokens.numel()
        x = self.hidden(tokens, positions, documents, rows=None if every else trained, cache=cache, last_only=last_only)
        if self.score is not None and self.output == "scalar":
            return self._scalars(x if trained is None else x.flatten(0, -2))
        if labels is None or trained is None:
            return self._logits(x, self.output_weight, temperature)
        x = x.reshape(-1, x.shape[-1])
        read = x, self.output_weight, labels.reshape(-1) if every else labels.reshape(-1).index_select(0, trained)
        caps: Any = {"softcap": self.logit_softcap, "scale": self.logit_scale}
        if teacher is not None:
            found = divergence_scores(*read, teacher, **caps)
            own = token_scores(*read, **caps, temperature=temperature).log_probs if "log_probs" in want else None
            return replace(found, log_probs=own)
        scores = token_scores(*read, **caps, temperature=temperature, want=frozenset(want) - {"values"})
        return replace(scores, values=self._scalars(x)) if "values" in want else scores

    def as_teacher(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        *,
        trained: Tensor,
        beta: float = 0.5,
        temperature: float = 1.0,
    ) -> Teacher:
        """What a student is compared with at the flat indices `trained` (N,): handed to its forward pass."""
        x = self.hidden(tokens, positions, documents, rows=trained)
        return Teacher(x, self.output_weight, self.logit_softcap, self.logit_scale, beta, temperature)

    def scalars(self, tokens: Tensor, positions: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Of a model with a scalar head, whatever else it has: one number per token, (B, T) fp32."""
        return self._scalars(self.hidden(tokens, positions, documents))

    def _scalars(self, x: Tensor) -> Tensor:
        assert self.score is not None
        return F.linear(x, self.score.weight).float().squeeze(-1)

    def _logits(self, x: Tensor, weight: Tensor, temperature: float) -> Tensor:
        z = F.linear(x, weight).float() * self.logit_scale
        if self.logit_softcap is not None:
            z = self.logit_softcap * torch.tanh(z / self.logit_softcap)
        return z / temperature
