"""Log-probs of a frozen reference, computed once for every sample and kept in the cache: no second model in memory.

Kept per trained token, not summed, so that gains are subtracted as exactly as with a live reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import hash_of
from ostinato.data.fingerprint import made_once
from ostinato.data.formats import SampleFormat, Samples
from ostinato.distributed.shards import whole
from ostinato.training.base_weights import digests_of
from ostinato.training.parts import Parts
from ostinato.training.state import named_weights, stored_weights

VERSION = 1
TOLERANCE = 1e-4
Score = Callable[[Any], Tensor]
"""Of a batch as its format makes it: (N,) log-probs of the trained tokens."""


class Precomputed:
    """Samples that bring their `reference`, (n,) fp32 log-probs of their `trained_tokens` tokens, with them."""

    def __init__(self, samples: Samples, folder: Path) -> None:
        self.samples = samples
        self.values = np.load(folder / "values.npy", mmap_mode="r")
        self.starts = np.load(folder / "starts.npy")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.samples, name)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return replace(
            self.samples[index], reference=np.array(self.values[self.starts[index] : self.starts[index + 1]])
        )


def precompute(parts: Parts, score: Score) -> None:
    """Let all samples of `parts.data` bring the log-probs that `score` gives now. Raises RefusedError where those in
    the cache are not what it gives."""
    data, strategy, training = parts.data, parts.strategy, parts.config.training
    model = fingerprint(parts.models["model"], training.mixed_precision)
    rows = parts.config.evaluation.batch_size or training.micro_batch_size or training.batch_size

    def scores(samples: Samples, indices: range) -> list[np.ndarray]:
        with torch.no_grad(), parts.autocast():
            return scores_of(samples, indices, data.format, lambda batch: score(batch.to(strategy.device)))

    def ready(samples: Samples) -> Samples:
        folder = data.format.options.cache / "references" / hash_of([VERSION, model, samples.fingerprint])
        missing = strategy.share(not folder.is_dir())
        if missing and strategy.is_main:
            write(folder, samples, rows, scores)
        elif missing and strategy.sharded:  # rank 0 cannot compute alone
            for start in range(0, len(samples), rows):
                scores(samples, range(start, min(start + rows, len(samples))))
        strategy.share(None)  # the others wait for rank 0
        found = Precomputed(samples, folder)
        for index, now in enumerate(scores(samples, range(min(rows, len(samples))))):
            difference = np.abs(found[index].reference - now).max()
            if not difference <= TOLERANCE:
                raise RefusedError(
                    f"{folder}: the stored log-probs of the reference differ by {difference:.2g} from what it gives "
                    f"now ({samples.place(index)}). Delete the folder; they are computed again at the next start."
                )
        return found  # type: ignore[return-value]

    data.train.update({label: ready(samples) for label, samples in data.train.items()})
    if data.validation is not None:
        parts.data = replace(data, validation=ready(data.validation))


def scores_of(samples: Samples, indices: range, form: SampleFormat, score: Score) -> list[np.ndarray]:
    """The log-probs of the trained tokens of each of these samples, laid out as in training."""
    layout = form.layout([samples.length(index) for index in indices])
    order = [position for row in layout for position in row]
    items = [samples[index] for index in indices]
    flat = score(form.collate([[items[position] for position in row] for row in layout])).float().cpu().numpy()
    ends = np.cumsum([items[position].trained_tokens for position in order])
    found = dict(zip(order, np.split(flat, ends[:-1]), strict=True))
    return [found[position] for position in range(len(indices))]


def write(folder: Path, samples: Samples, rows: int, scores: Callable[[Samples, range], list[np.ndarray]]) -> None:
    """All samples' log-probs, `rows` samples at once."""
    found = []
    with made_once(folder) as temporary:
        for start in range(0, len(samples), rows):
            found += scores(samples, range(start, min(start + rows, len(samples))))
        np.save(temporary / "starts.npy", np.cumsum([0, *map(len, found)]))
        np.save(temporary / "values.npy", np.concatenate(found))


def fingerprint(model: nn.Module, precision: str) -> str:
    """Of every bit of a model's weights, and of how it computes."""
    if (adapter := getattr(model, "adapter", None)) is not None:  # its base was hashed when it was loaded
        facts = [str(adapter.base), str(adapter.options), precision]  # type: ignore[union-attr]
        return hash_of([digests_of(stored_weights(model)), *facts])
    digest = xxhash.xxh3_128()
    for name, weight in sorted(named_weights(model).items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(whole(weight).cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    described: Any = getattr(model, "config_dict", model.__repr__)
    return hash_of([digest.hexdigest(), precision, str(described())])
