"""Promise 1, for every registered algorithm: the gradient does not depend on how the step is cut, nor does evaluation
on the batch size."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ostinato.data.batches import IGNORE, PADDING, TokenBatch
from tests.training.gradient_of_step import gradient_of_step
from tests.training.tiny import algorithms, tiny_config, write_config

NO_CLIP = "training.max_grad_norm=null"


@functools.cache
def whole_step(algorithm: str, folder: Path) -> dict[str, Tensor]:
    return gradient_of_step(tiny_config(folder, algorithm, NO_CLIP))


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """The whole gradient to 1e-6; single tensors, whose sums may cancel each other almost away, to 1e-5. A loss of
    policy gradients is nothing but what is left of such sums: there the error is absolute."""
    assert set(found) == set(wanted) and len(wanted) > 5
    errors = {name: (found[name].double() - gradient.double()).norm() for name, gradient in wanted.items()}
    norms = {name: gradient.double().norm() for name, gradient in wanted.items()}
    for name, error in errors.items():
        bound = 1e-6 if name in ("loss", "validation") else 1e-5
        least = 0.1 if name == "loss" else 1e-30
        assert error / norms[name].clamp(min=least) < bound, f"{name}: relative error {error / norms[name]:.2e}"
    tensors = set(wanted) - {"loss", "validation"}
    error, norm = (torch.stack([values[name] for name in tensors]).norm() for values in (errors, norms))
    assert error / norm < 1e-6, f"relative error {error / norm:.2e}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("tiny")


@pytest.mark.parametrize("algorithm", algorithms())
@pytest.mark.parametrize(
    "cut", ["micro_batch_size=1", "micro_batch_size=3", "gradient_accumulation=2", "gradient_accumulation=8"]
)
def test_gradient_does_not_depend_on_micro_batches(folder: Path, algorithm: str, cut: str) -> None:
    found = gradient_of_step(tiny_config(folder, algorithm, NO_CLIP, f"training.{cut}"))
    assert_same(found, whole_step(algorithm, folder))


@pytest.mark.parametrize("algorithm", [name for name in algorithms() if name != "pretrain"])
def test_gradient_does_not_depend_on_packing(folder: Path, algorithm: str) -> None:
    found = gradient_of_step(
        tiny_config(folder, algorithm, NO_CLIP, "data.packing=false", "training.micro_batch_size=2")
    )
    assert_same(found, whole_step(algorithm, folder))


def pad_left(batch: TokenBatch) -> TokenBatch:
    """The same documents behind three columns of padding."""

    def shifted(tensor: Tensor, fill: int) -> Tensor:
        return torch.cat([torch.full((len(tensor), 3), fill, dtype=tensor.dtype), tensor], dim=1)

    documents = torch.zeros_like(batch.tokens) if batch.documents is None else batch.documents
    return TokenBatch(
        tokens=shifted(batch.tokens, 0),
        labels=shifted(batch.labels, IGNORE),
        positions=shifted(batch.positions, 0),
        documents=shifted(documents, PADDING),
    )


@pytest.mark.parametrize("algorithm", ["pretrain", "sft"])
def test_gradient_does_not_depend_on_the_padding_side(folder: Path, algorithm: str) -> None:
    found = gradient_of_step(tiny_config(folder, algorithm, NO_CLIP), transform=pad_left)
    assert_same(found, whole_step(algorithm, folder))


@pytest.mark.parametrize("algorithm", algorithms())
@pytest.mark.parametrize("ranks", [2, 4])
def test_gradient_does_not_depend_on_ranks(folder: Path, algorithm: str, ranks: int) -> None:
    """Real processes on gloo; three rows a micro-batch, so that ranks hold unequal token counts, one none at all."""
    overrides = [NO_CLIP, "distributed.bucket_megabytes=1", "training.micro_batch_size=3"]
    assert_same(on_ranks(folder, algorithm, ranks, *overrides), whole_step(algorithm, folder))


@pytest.mark.parametrize("algorithm", [name for name in algorithms() if name not in ("distill", "grpo", "ppo")])
def test_elastic_gives_the_same_bits_on_any_number_of_ranks(folder: Path, algorithm: str) -> None:
    """With dropout, recomputation and bf16; 3 or more micro-batches, so that the last round is not full."""
    overrides = ["training.numerics=elastic", "training.micro_batch_size=3", "training.mixed_precision=bf16"]
    overrides += ["training.gradient_checkpointing=true", "training.max_grad_norm=0.1", "model.dropout=0.1"]
    alone = gradient_of_step(tiny_config(folder, algorithm, *overrides))
    for ranks in (2, 4):
        found = on_ranks(folder, algorithm, ranks, *overrides)
        assert set(found) == set(alone)
        assert [name for name in alone if not torch.equal(found[name], alone[name])] == [], f"{ranks} ranks"


def on_ranks(folder: Path, algorithm: str, ranks: int, *overrides: str) -> dict[str, Tensor]:
    """The gradient of the first step, by real processes on gloo."""
    config, output = write_config(folder, algorithm), folder / f"{algorithm}-{ranks}.safetensors"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.training.gradient_of_step",
        str(config),
        str(output),
        "distributed.strategy=ddp",
    ]
    command += overrides
    processes = [
        subprocess.Popen(command, env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * ranks
    return load_file(output)


@pytest.mark.parametrize("algorithm", algorithms())
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_evaluation_does_not_depend_on_the_batch_size(folder: Path, algorithm: str, rows: int) -> None:
    found = gradient_of_step(tiny_config(folder, algorithm, NO_CLIP, f"evaluation.batch_size={rows}"))
    torch.testing.assert_close(found["validation"], whole_step(algorithm, folder)["validation"], rtol=1e-6, atol=0)
