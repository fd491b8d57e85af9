"""What the framework costs: our trainer beside a bare PyTorch loop over the same native model."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from benchmarks.measure import library_text, record
from benchmarks.turns import PeerStep, take_turns_in_a_run
from ostinato.data.batches import TokenBatch
from ostinato.training.trainer import BaseTrainer

MODEL = ["model.name=transformer", "model.width=256", "model.layers=4", "model.heads=4", "model.tied_embeddings=true"]
DATA = ["data.sequence_length=256", "training.batch_size=8", "tokenizer.name=byte"]


def bare_loop(trainer: BaseTrainer) -> PeerStep:
    """Forward, backward, clip, step: nothing else, with the optimizer that the trainer has."""
    model = copy.deepcopy(trainer.model)
    groups = [{**group, "params": []} for group in trainer.optimizer.param_groups]
    named = dict(model.named_parameters())
    for group in groups:
        group["params"] = [named[name] for name in group["names"]]
    optimizer = type(trainer.optimizer)(groups)  # type: ignore[call-arg]
    peak = trainer.config.training.max_grad_norm

    def step(batches: Sequence[TokenBatch]) -> None:  # one micro-batch a step here
        (batch,) = batches
        scores = model(batch.tokens, batch.positions, batch.documents, labels=batch.labels, trained=batch.trained)
        loss = -scores.log_probs.sum() / batch.trained.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), peak)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def main() -> None:
    """Byte-level pre-training of a model of 3.2 million parameters, 2,048 tokens a step."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("".join(library_text()), "utf-8")
        source = ["data.train.name=text", f"data.train.path={text}"]
        turns = take_turns_in_a_run("configs/algorithms/pretrain.yaml", [*MODEL, *DATA, *source], bare_loop)
    record("framework overhead", [main.__doc__ or "", *turns.lines("a bare loop over the same model")])


if __name__ == "__main__":
    main()
