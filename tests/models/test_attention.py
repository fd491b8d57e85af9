"""The CPU kernel for short documents against attention written out in float64, values and gradients."""

import pytest
import torch
from torch import Tensor

from ostinato.models.attention import attend, document_runs, plan_attention
from ostinato.models.cpu_attention import Run

WIDTH = 4


def documents_of(rows: list[list[int]], padding: int = 0) -> Tensor:
    """Rows of documents with these lengths, `padding` columns of none behind."""
    lines = [[number for number, n in enumerate(row) for _ in range(n)] + [-1] * padding for row in rows]
    return torch.tensor(lines)


def reference(q: Tensor, k: Tensor, v: Tensor, documents: Tensor, window: int | None) -> Tensor:
    """softmax(q k / sqrt(width)) v over earlier tokens of the same document, head by head; 0 for padding."""
    groups = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(groups, dim=2) for x in (k, v))
    scores = torch.einsum("bqhw,bkhw->bhqk", q, k) / WIDTH**0.5
    step = torch.arange(q.shape[1])
    behind = step[:, None] - step
    seen = (behind >= 0) & (documents[:, :, None] == documents[:, None, :])[:, None]
    if window is not None:
        seen = seen & (behind < window)
    mixed = torch.einsum("bhqk,bkhw->bqhw", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)
    return mixed * (documents >= 0)[:, :, None, None]


@pytest.mark.parametrize("rows", [[[3, 3, 2], [8]], [[300], [300]], [[129, 40, 131], [128, 172]], [[520, 7]]])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 5, 150])
@pytest.mark.parametrize("padding", [0, 3])
def test_equals_float64_reference(rows: list[list[int]], kv_heads: int, window: int | None, padding: int) -> None:
    documents = documents_of(rows, padding)
    generator = torch.Generator().manual_seed(0)
    shape = (*documents.shape, 4, WIDTH)
    q, k, v, upstream = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))
    leaves = [
        q.requires_grad_(),
        k[:, :, :kv_heads].clone().requires_grad_(),
        v[:, :, :kv_heads].clone().requires_grad_(),
    ]
    plan = plan_attention("auto", (len(rows), documents.shape[1]), documents, q.device, window=window)
    assert plan.kind == "documents"
    wanted = reference(*leaves, documents, window)
    real = (documents >= 0)[:, :, None, None]
    found = attend(*leaves, plan) * real
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    expected = torch.autograd.grad((wanted * upstream).sum(), leaves)
    for ours, theirs in zip(torch.autograd.grad((found * upstream).sum(), leaves), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [64, 200])
def test_rows_without_documents_equal_the_fused_kernel(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, length, 2, WIDTH, generator=generator) for _ in range(3))
    plans = [plan_attention(kind, (3, length), None, q.device) for kind in ("auto", "sdpa")]
    assert [plan.kind for plan in plans] == ["documents", "causal"]
    ours, theirs = (attend(q, k, v, plan) for plan in plans)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [30, 600])
def test_bf16_is_computed_in_fp32_and_rounded_once(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, length, 2, WIDTH, generator=generator).bfloat16() for _ in range(3))
    documents = torch.zeros(1, length, dtype=torch.long)
    plan = plan_attention("auto", (1, length), documents, q.device)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend(q, k, v, plan)
    wanted = reference(q.double(), k.double(), v.double(), documents, None)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), wanted, rtol=2**-8, atol=1e-5)


def test_runs_join_neighbours_of_one_length_and_never_cross_rows() -> None:
    documents = torch.tensor([[0, 0, 1, 1, 2, -1], [0, 0, 0, 0, 0, 0]])
    assert document_runs(documents) == (Run(0, 2, 2), Run(4, 1, 1), Run(6, 1, 6))
    assert document_runs(torch.tensor([[-1, 4, 4], [4, 4, -1]])) == (Run(1, 2, 2),)


@pytest.mark.parametrize("kind", ["flex", "varlen"])
def test_a_kernel_of_the_gpu_says_so(kind: str) -> None:
    with pytest.raises(ValueError, match=f"attention: {kind} runs on CUDA only"):
        plan_attention(kind, (1, 4), None, torch.device("cpu"))
