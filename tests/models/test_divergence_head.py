"""The divergence from hidden states, in tiles, equals that on logits: values and gradients, for any cut."""

import pytest
import torch

from ostinato.losses.divergence import generalised_jsd
from ostinato.models.divergence_head import Teacher, divergence, divergence_scores

N, D, E, V = 13, 6, 4, 11
TILES = [None, (13, 11), (5, 11), (13, 4), (4, 3), (1, 1), (100, 100)]
BETAS = [0.0, 0.3, 0.5, 1.0]
CAPS = [
    {},
    {"student_softcap": 2.0, "student_scale": 0.7, "teacher_softcap": 3.0, "teacher_scale": 1.4},
    {"student_scale": 0.5},
    {"teacher_softcap": 1.5},
]


def inputs(dtype=torch.float64, n=N):
    generator = torch.Generator().manual_seed(0)
    shapes = (n, D), (V, D), (n, E), (V, E)
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    upstream = torch.randn(n, generator=generator, dtype=torch.float64)
    return [leaf.to(dtype).requires_grad_() for leaf in leaves], upstream


def eager(leaves, beta, temperature, **caps):
    """Logits by the definitions of the head, then the formula on them."""

    def logits(hidden, weight, softcap, scale):
        z = scale * (hidden @ weight.T)
        return z if softcap is None else softcap * torch.tanh(z / softcap)

    student = logits(*leaves[:2], caps.get("student_softcap"), caps.get("student_scale", 1.0))
    teacher = logits(*leaves[2:], caps.get("teacher_softcap"), caps.get("teacher_scale", 1.0))
    return generalised_jsd(student, teacher, beta=beta, temperature=temperature)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("caps", CAPS)
def test_tiled_equals_eager(caps, beta, tile):
    leaves, upstream = inputs()
    expected = eager(leaves, beta, 1.3, **caps)
    wanted = torch.autograd.grad((upstream * expected).sum(), leaves[:2])
    values = divergence(*leaves, beta=beta, temperature=1.3, **caps, tile=tile)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-13)
    *ours, to_hidden, to_weight = torch.autograd.grad((upstream * values).sum(), leaves, allow_unused=True)
    assert to_hidden is None and to_weight is None  # the teacher stays
    for slope, want in zip(ours, wanted, strict=True):
        torch.testing.assert_close(slope, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("tile", [None, (4, 3)])
@pytest.mark.parametrize("beta", BETAS)
def test_gradients_by_differences(beta, tile):
    (hidden, weight, *teacher), _ = inputs()
    teacher = [x.detach() for x in teacher]
    assert torch.autograd.gradcheck(
        lambda h, w: divergence(h, w, *teacher, beta=beta, temperature=0.8, student_softcap=3.0, tile=tile),
        (hidden, weight),
    )


@pytest.mark.parametrize("tile", [None, (4, 3)])
@pytest.mark.parametrize("beta", BETAS)
def test_fp32(beta, tile):
    leaves, upstream = inputs()
    small, _ = inputs(torch.float32)
    exact, values = eager(leaves, beta, 1.0), divergence(*small, beta=beta, tile=tile)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-5)
    wanted = torch.autograd.grad((upstream * exact).sum(), leaves[:2])
    ours = torch.autograd.grad((upstream.float() * values).sum(), small[:2])
    for slope, want in zip(ours, wanted, strict=True):
        torch.testing.assert_close(slope.double(), want, rtol=1e-5, atol=1e-5)


def test_bf16_operands_keep_logits_in_fp32():
    """Against float64 on the same bf16 numbers: values within 1e-4, norms of gradients within 5e-3."""
    leaves, upstream = inputs(torch.bfloat16)
    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = eager(exact_leaves, 0.5, 1.0)
    wanted = torch.autograd.grad((upstream * exact).sum(), exact_leaves[:2])
    values = divergence(*leaves, beta=0.5, tile=(4, 3))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), exact, rtol=0, atol=1e-4)
    ours = torch.autograd.grad((upstream.float() * values).sum(), leaves[:2])
    for slope, want in zip(ours, wanted, strict=True):
        assert slope.dtype == torch.bfloat16
        assert (slope.double() - want).norm() <= 5e-3 * want.norm()


def test_autocast_rounds_the_operands_and_nothing_else():
    """fp32 weights under autocast: the bits of bf16 weights, with gradients in fp32."""
    leaves, _ = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        values = divergence(*leaves, beta=0.5)
    rounded = [leaf.detach().bfloat16().requires_grad_() for leaf in leaves]
    expected = divergence(*rounded, beta=0.5)
    assert torch.equal(values, expected) and not torch.equal(values, divergence(*leaves, beta=0.5))
    (slope,), (want,) = (torch.autograd.grad(x.sum(), w) for x, w in ((values, leaves[1]), (expected, rounded[1])))
    assert slope.dtype == torch.float32 and torch.equal(slope.bfloat16(), want)


@pytest.mark.parametrize("beta", BETAS)
def test_two_cuts_of_a_step_add_up(beta):
    """Divided by the step's tokens, never by rows: micro-batches of 5 and 8 tokens give the gradient of 13."""
    leaves, _ = inputs()
    whole = torch.autograd.grad(divergence(*leaves, beta=beta).sum() / N, leaves[:2])
    summed = [torch.zeros_like(slope) for slope in whole]
    for rows in (slice(0, 5), slice(5, N)):
        share = divergence(leaves[0][rows], leaves[1], leaves[2][rows], leaves[3], beta=beta).sum() / N
        for total, slope in zip(summed, torch.autograd.grad(share, leaves[:2]), strict=True):
            total += slope
    for total, slope in zip(summed, whole, strict=True):
        torch.testing.assert_close(total, slope, rtol=1e-12, atol=1e-13)


def test_no_tokens_give_zero_with_a_graph():
    leaves, _ = inputs(n=0)
    d_hidden, d_weight = torch.autograd.grad(divergence(*leaves, beta=0.5).sum(), leaves[:2])
    assert d_hidden.shape == (0, D) and d_weight.shape == (V, D) and not d_weight.any()


def test_only_what_needs_a_gradient_gets_one():
    (hidden, weight, *teacher), _ = inputs()
    (slope,) = torch.autograd.grad(divergence(hidden, weight.detach(), *teacher, beta=1.0).sum(), [hidden])
    (both, _) = torch.autograd.grad(divergence(hidden, weight, *teacher, beta=1.0).sum(), [hidden, weight])
    assert torch.equal(slope, both)


def test_the_logits_of_all_tokens_are_never_held():
    """300 tokens over 40000 ids in fp32 are 46 MiB; no tensor of the graph or of the passes holds that many numbers."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 2, generator=generator, requires_grad=True) for n in (300, 40_000))
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            nonlocal largest
            result = function(*arguments, **(options or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        divergence(hidden, weight, hidden.detach(), weight.detach(), beta=0.5, tile=(64, 8192)).sum().backward()
    assert 64 * 8192 <= largest < 300 * 40_000 / 10


@pytest.mark.parametrize(
    ("shapes", "words"),
    [(((3, 2), (5, 2), (3, 2), (6, 2)), "vocabulary"), (((3, 2), (5, 2), (4, 2), (5, 2)), "tokens")],
)
def test_models_that_do_not_fit_are_refused(shapes, words):
    with pytest.raises(ValueError, match=words):
        divergence(*map(torch.zeros, shapes), beta=0.5)


def test_options_that_mean_nothing_are_refused():
    leaves, _ = inputs()
    for beta, temperature in ((1.1, 1.0), (-0.1, 1.0), (0.5, 0.0)):
        with pytest.raises(ValueError, match="beta"):
            divergence(*leaves, beta=beta, temperature=temperature)


@pytest.mark.parametrize("tile", [None, (4, 3)])
def test_the_teachers_log_probs_of_the_labels_come_along(tile):
    leaves, _ = inputs()
    labels = torch.randint(V, (N,), generator=torch.Generator().manual_seed(1))
    teacher = Teacher(*leaves[2:], softcap=3.0, scale=1.4, beta=0.3, temperature=0.6)
    scores = divergence_scores(*leaves[:2], labels, teacher, softcap=2.0, tile=tile)
    caps = {"student_softcap": 2.0, "teacher_softcap": 3.0, "teacher_scale": 1.4}
    assert torch.equal(scores.divergence, divergence(*leaves, beta=0.3, temperature=0.6, **caps, tile=tile))
    z = 3.0 * torch.tanh(1.4 * (leaves[2] @ leaves[3].T) / 3.0) / 0.6
    expected = z.log_softmax(1)[torch.arange(N), labels]
    torch.testing.assert_close(scores.teacher_log_probs, expected.detach(), rtol=1e-12, atol=1e-13)
    assert not scores.teacher_log_probs.requires_grad and scores.divergence.requires_grad
