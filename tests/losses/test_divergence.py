"""The generalised Jensen-Shannon divergence on logits, against float64 NumPy and by its properties."""

import math

import numpy as np
import pytest
import torch
from tests.numerics import reference_rl as reference
from tests.numerics.small_rollout import close, tensor

from ostinato.losses.divergence import generalised_jsd

BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]
RNG = np.random.default_rng(3)
STUDENT, TEACHER, UPSTREAM = RNG.normal(size=(7, 5)) * 2, RNG.normal(size=(7, 5)) * 2, RNG.normal(size=7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients(temperature, beta, dtype):
    student, teacher = tensor(STUDENT, dtype, grad=True), tensor(TEACHER, dtype, grad=True)
    values = generalised_jsd(student, teacher, beta=beta, temperature=temperature)
    close(values, reference.generalised_jsd(STUDENT, TEACHER, beta, temperature), dtype)
    weighted = (tensor(UPSTREAM, dtype) * values).sum()
    slope, to_teacher = torch.autograd.grad(weighted, [student, teacher], allow_unused=True)
    assert to_teacher is None
    expected = reference.gradient(
        lambda x: UPSTREAM @ reference.generalised_jsd(x.reshape(7, 5), TEACHER, beta, temperature), STUDENT.ravel()
    )
    close(slope.flatten(), expected, dtype)


@pytest.mark.parametrize("beta", BETAS)
def test_equal_models_have_no_divergence_and_no_gradient(beta):
    student = tensor(STUDENT, grad=True)
    values = generalised_jsd(student, tensor(STUDENT + 3.0), beta=beta)
    assert values.abs().max() < 1e-14
    assert torch.autograd.grad(values.sum(), student)[0].abs().max() < 1e-14


def test_at_one_half_it_is_symmetric_and_below_ln_2():
    values = generalised_jsd(tensor(STUDENT), tensor(TEACHER), beta=0.5)
    close(generalised_jsd(tensor(TEACHER), tensor(STUDENT), beta=0.5), values.numpy(), torch.float64)
    far = generalised_jsd(tensor([[300.0, 0.0]], torch.float32), tensor([[0.0, 300.0]], torch.float32), beta=0.5)
    assert (values < math.log(2)).all() and far.item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_ends_are_limits_of_nothing():
    """Near beta 0 the formula is beta KL(P|S), near 1 it is (1 - beta) KL(S|P): at the ends the divergences stand."""
    for beta, end in ((1e-6, 0.0), (1 - 1e-6, 1.0)):
        near = generalised_jsd(tensor(STUDENT), tensor(TEACHER), beta=beta) / 1e-6
        np.testing.assert_allclose(near, generalised_jsd(tensor(STUDENT), tensor(TEACHER), beta=end), rtol=1e-3)


@pytest.mark.parametrize(("beta", "temperature"), [(-0.1, 1.0), (1.5, 1.0), (0.5, 0.0)])
def test_what_means_nothing_is_refused(beta, temperature):
    with pytest.raises(ValueError, match="beta"):
        generalised_jsd(tensor(STUDENT), tensor(TEACHER), beta=beta, temperature=temperature)
