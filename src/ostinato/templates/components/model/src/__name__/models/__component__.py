"""{{class}}: a language model of your own. B batch, T time, N trained tokens, V vocabulary, D width."""

from __future__ import annotations

from collections.abc import Set

from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from ostinato.models.head import TokenScores, token_scores, trained_indices
from torch import Tensor, nn


@MODELS.register("{{component}}")
class {{class}}(nn.Module):
    """Embedding, `layers` GRU layers of `width`, and the embedding again as head.

    One document a row (data.packing: false, or windows that may cross documents): a state knows no borders.
    """

    def __init__(self, inputs: ModelInputs, *, width: int = 128, layers: int = 1) -> None:
        super().__init__()
        self.options = {"width": width, "layers": layers}
        self.embedding = nn.Embedding(inputs.vocab_size, width)
        self.mixer = nn.GRU(width, width, layers, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.scale = width**-0.5

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        trained: Tensor | None = None,
        temperature: float = 1.0,
        want: Set[str] = frozenset(),
    ) -> TokenScores | Tensor:
        """TokenScores of the trained labels, (N,), or without `labels` the logits, (B, T, V).

        tokens and labels (B, T), labels shifted already; `trained` (N,): flat indices of the trained labels.
        """
        x = self.norm(self.mixer(self.embedding(tokens))[0])  # (B, T, D)
        if labels is None:
            return x @ self.embedding.weight.t() * (self.scale / temperature)
        rows = trained_indices(labels) if trained is None else trained
        return token_scores(
            x.flatten(0, 1)[rows],
            self.embedding.weight,
            labels.flatten()[rows],
            scale=self.scale,
            temperature=temperature,
            want=frozenset(want),
        )
