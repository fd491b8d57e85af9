"""The blocks' short way on the CPU against their own modules, values and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ostinato.core.config import Component
from ostinato.core.inputs import ModelInputs
from ostinato.data.batches import IGNORE
from ostinato.models.blocks import Block
from ostinato.models.cpu_block import RootMeanSquareNorm
from ostinato.training.initialise import build_model

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"norm": "layer", "positions": "learned", "mlp": "gelu", "tied_embeddings": True},
    "llama": {"kv_heads": 2},
    "window": {"kv_heads": 1, "window": 5, "mlp": "geglu"},
    "tanh": {"mlp": "geglu_tanh", "norm": "layer"},
    "mixed": {
        **{"attention_scale": 0.6, "norm_offset": 1.0, "scaled_embeddings": True, "rope_fraction": 0.5},
        **{"window": 5, "window_layers": [1], "rope_local_base": 100.0},
    },
}


def made(**options: Any) -> Any:
    torch.set_num_threads(1)
    node = Component("transformer", {"width": 32, "layers": 2, "heads": 4, "init_std": 0.2, **options})
    return build_model(node, ModelInputs(61, 40), 0, torch.device("cpu")).double()


def batch(packed: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens, labels = (torch.randint(0, 61, (2, 24), generator=generator) for _ in range(2))
    labels[:, 3:9] = IGNORE
    if not packed:
        return {"tokens": tokens, "labels": labels}
    documents = torch.tensor([[0] * 9 + [1] * 4 + [2] * 8 + [-1] * 3, [0] * 2 + [1] * 20 + [-1] * 2])
    positions = torch.cat([torch.arange(n) for n in (9, 4, 8, 3, 2, 20, 2)]).view(2, 24)
    labels = labels.masked_fill(documents < 0, IGNORE)
    return {"tokens": tokens, "labels": labels, "positions": positions, "documents": documents}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # fp32 may use oneDNN's products
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_equals_the_modules(shape: str, packed: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(**SHAPES[shape]).to(dtype)
    exact = dtype == torch.float64
    used = []
    steps = Block._steps
    monkeypatch.setattr(Block, "_steps", lambda *args: used.append(1) or steps(*args))

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        scores = model(**batch(packed)).log_probs
        weights = torch.linspace(-1, 1, len(scores), dtype=dtype)
        return scores, torch.autograd.grad((scores * weights).sum(), list(model.parameters()))

    scores, gradients = run()
    assert len(used) == 2
    for block in model.blocks():
        block.mlp.up_proj.register_forward_hook(lambda *_: None)  # a hooked module is called itself
    wanted, expected = run()
    assert len(used) == 2
    torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-9 if exact else 1e-5)
    for (name, _), ours, theirs in zip(model.named_parameters(), gradients, expected, strict=True):
        assert (ours - theirs).norm() <= (1e-10 if exact else 1e-5) * theirs.norm(), name


@pytest.mark.parametrize(
    "change", [{"dropout": 0.1}, {"qk_norm": True}, {"qkv_bias": True}, {"mlp_bias": True}, {"norm_bias": True},
               {"attention": "sdpa"}, {"attention_softcap": 9.0}, {"norm_placement": "after"},
               {"norm_placement": "both"}, {"qk_norm": True, "qk_norm_over": "heads"}],
)  # fmt: skip
def test_what_the_steps_do_not_know_takes_the_modules(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Block, "_steps", lambda *_: pytest.fail("computed without its modules"))
    made(**change)(**batch(False))


def test_root_mean_square_norm_has_the_right_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(
        RootMeanSquareNorm.apply(x, weight, 1e-5), torch.nn.functional.rms_norm(x, (7,), weight, 1e-5)
    )
    assert torch.autograd.gradcheck(lambda *a: RootMeanSquareNorm.apply(*a, 1e-5), (x, weight))


def test_gradient_checkpointing_changes_nothing() -> None:
    model = made(**SHAPES["llama"])
    model.train()
    found = []
    for on in (False, True):
        model.set_checkpointing(on)
        found.append(torch.autograd.grad(model(**batch(True)).log_probs.sum(), list(model.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_mixed_precision_rounds_products_only() -> None:
    """bf16 has 8 bits: scores stay within a few per mille of fp32's, and gradients arrive in fp32."""
    model, rows = made(**SHAPES["llama"]).float(), batch(True)
    wanted = model(**rows).log_probs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(**rows).log_probs
    assert scores.dtype == torch.float32 and not torch.equal(scores, wanted)
    assert (scores - wanted).abs().max() < 0.02 * wanted.abs().max()
    scores.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
