"""The language-model head against the same formulas in float64, values and gradients, for any cut into tiles."""

import pytest
import torch

from ostinato.models.head import TILE_BYTES, tiles, token_scores, trained_indices

N, D, V = 13, 6, 11


def reference(hidden, weight, labels, bias=None, softcap=None, scale=1.0, temperature=1.0):
    """log-probs, entropy, top1 by the definitions of the specification."""
    z = hidden @ weight.T
    if bias is not None:
        z = z + bias
    z = z * scale
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    z = z / temperature
    log_p = z - z.logsumexp(dim=1, keepdim=True)
    entropy = z.logsumexp(dim=1) - (log_p.exp() * z).sum(dim=1)
    return log_p.gather(1, labels[:, None])[:, 0], entropy, z.argmax(dim=1) == labels


def inputs(dtype=torch.float64, seed=0, n=N):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, D, generator=generator, dtype=torch.float64)
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64)
    bias = torch.randn(V, generator=generator, dtype=torch.float64)
    labels = torch.randint(V, (n,), generator=generator)
    upstream = torch.randn(2, n, generator=generator, dtype=torch.float64)
    return [x.to(dtype).requires_grad_() for x in (hidden, weight, bias)], labels, upstream


@pytest.mark.parametrize("tile", [None, (13, 11), (5, 11), (13, 4), (4, 3), (1, 1), (100, 100)])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("wanted", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_values_and_gradients_equal_the_float64_reference(tile, softcap, wanted):
    facts = {"softcap": softcap, "scale": 0.7, "temperature": 1.3}
    leaves, labels, upstream = inputs()
    hidden, weight, bias = leaves
    log_probs, entropy, top1 = reference(hidden, weight, labels, bias, **facts)
    expected = torch.autograd.grad(
        (wanted[0] * upstream[0] * log_probs + wanted[1] * upstream[1] * entropy).sum(), leaves
    )
    want = {"entropy", "top1"} if wanted[1] else {"top1"}
    scores = token_scores(hidden, weight, labels, bias=bias, **facts, want=want, tile=tile)
    loss = (wanted[0] * upstream[0] * scores.log_probs).sum() if wanted[0] else 0.0
    if wanted[1]:
        loss = loss + (wanted[1] * upstream[1] * scores.entropy).sum()
        torch.testing.assert_close(scores.entropy, entropy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(scores.log_probs, log_probs, rtol=1e-12, atol=1e-12)
    assert torch.equal(scores.top1, top1)
    for ours, theirs in zip(torch.autograd.grad(loss, leaves), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("tile", [None, (4, 3)])
def test_what_was_not_asked_for_is_none(tile):
    (hidden, weight, _), labels, _ = inputs(torch.float32)
    scores = token_scores(hidden, weight, labels, tile=tile)
    assert scores.entropy is None and scores.top1 is None
    with pytest.raises(ValueError, match="perplexity"):
        token_scores(hidden, weight, labels, want={"perplexity"})


@pytest.mark.parametrize("tile", [None, (2, 1), (2, 2)])
def test_top1_is_the_first_maximum(tile):
    """Row 0: ids 1 and 2 tie, the first counts. Row 1: the same, the label is the later one."""
    weight = torch.tensor([[0.0], [1.0], [1.0]])
    scores = token_scores(torch.ones(2, 1), weight, torch.tensor([1, 2]), want={"top1"}, tile=tile)
    assert scores.top1.tolist() == [True, False]


def test_tiles_cover_everything_and_stay_small():
    for rows, columns in [(1, 7), (4096, 65), (5000, 32000), (3000, 200_001), (2, 30_000_000)]:
        seen = 0
        for part, spans in tiles(rows, columns):
            for span in spans:
                area = (part.stop - part.start) * (span.stop - span.start)
                assert area * 4 <= TILE_BYTES
                seen += area
        assert seen == rows * columns


def test_no_tokens_give_empty_scores_and_zero_gradients():
    (hidden, weight, bias), _, _ = inputs(n=0)
    scores = token_scores(hidden, weight, torch.empty(0, dtype=torch.long), bias=bias, want={"entropy", "top1"})
    assert scores.log_probs.shape == scores.entropy.shape == scores.top1.shape == (0,)
    (scores.log_probs.sum() + scores.entropy.sum()).backward()
    assert torch.equal(weight.grad, torch.zeros_like(weight)) and torch.equal(bias.grad, torch.zeros_like(bias))


@pytest.mark.parametrize("tile", [None, (7, 40)])
def test_bf16_operands_meet_the_stated_bounds(tile):
    """Against float64 on the same inputs: |d lp| <= 1e-4, norms of gradients within 5e-3, 1 - p within 1 % at 0.999."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(64, 32, generator=generator).bfloat16()
    weight = torch.randn(150, 32, generator=generator).bfloat16()
    labels = torch.randint(150, (64,), generator=generator)
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    exact = [hidden.double().requires_grad_(), weight.double().requires_grad_()]
    scores = token_scores(*ours, labels, want={"entropy"}, tile=tile)
    log_probs, entropy, _ = reference(*exact, labels)
    assert (scores.log_probs - log_probs).abs().max() <= 1e-4
    assert (scores.entropy - entropy).abs().max() <= 1e-4
    (scores.log_probs.sum() + 0.1 * scores.entropy.sum()).backward()
    (log_probs.sum() + 0.1 * entropy.sum()).backward()
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.grad.dtype == torch.bfloat16
        assert abs(mine.grad.double().norm() / theirs.grad.norm() - 1) <= 5e-3


def test_bf16_keeps_the_factor_one_minus_p():
    """Two ids, z = (log 999, 0): p = 0.999, and d lp / d z = (0.001, -0.001)."""
    hidden = torch.tensor([[1.0]], dtype=torch.bfloat16)
    z = torch.tensor([[999.0]]).log().bfloat16()
    weight = torch.cat([z, torch.zeros(1, 1, dtype=torch.bfloat16)]).requires_grad_()
    token_scores(hidden, weight, torch.tensor([0])).log_probs.sum().backward()
    expected = torch.sigmoid(-z.double()).item()
    assert weight.grad[0].item() == pytest.approx(expected, rel=1e-2)


def test_autocast_rounds_operands_and_keeps_fp32_gradients():
    (hidden, weight, _), labels, _ = inputs(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = token_scores(hidden, weight, labels)
    rounded, _, _ = reference(hidden.bfloat16().double(), weight.bfloat16().double(), labels)
    assert scores.log_probs.dtype == torch.float32
    assert (scores.log_probs - rounded).abs().max() < 1e-5
    scores.log_probs.sum().backward()
    assert weight.grad.dtype == torch.float32


def test_trained_indices_are_flat_and_in_order():
    assert trained_indices(torch.tensor([[-100, 3], [0, -100]])).tolist() == [1, 2]
