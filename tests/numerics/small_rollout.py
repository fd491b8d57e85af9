"""Six sequences of 3, 1, 5, 2, 4 and 1 trained tokens: both signs of advantage, ratios on both sides of each clip."""

import numpy as np
import torch

LENGTHS = (3, 1, 5, 2, 4, 1)
N, S = sum(LENGTHS), len(LENGTHS)
SEQUENCE = np.repeat(np.arange(S), LENGTHS)

OLD = np.array([-0.9, -2.1, -1.4, -0.7, -3.2, -1.1, -2.6, -0.8, -1.9, -1.0, -4.1, -1.3, -0.6, -2.2, -1.7, -1.2])
# Where A > 0 as where A < 0: above 1.2 and below 0.8 by token, by the sum and (with a clip of 0.05) by the mean.
LOG_RATIO = np.array(
    [0.3, -0.4, 0.05, 0.15, -0.3, 0.5, 0.1, -0.05, 0.25, -0.6, 0.02, 0.2, 0.1, 0.3, -0.1, -0.35],
)
LOG_PROBS = OLD + LOG_RATIO
REFERENCE = LOG_PROBS - np.array(
    [0.4, -0.2, 1.3, -0.9, 0.05, -1.6, 0.7, 0.3, -0.4, 0.8, -2.0, 0.15, -0.6, 0.9, 0.2, -0.1],
)
ADVANTAGES = np.repeat([1.2, -0.7, -1.5, 0.9, 0.8, -1.1], LENGTHS)
UPSTREAM = np.array([0.9, -0.4, 1.3, 0.2, -1.1, 0.6, 0.8, -0.3, 1.7, 0.5, -0.8, 1.1, 0.4, -1.4, 0.7, 1.2])

REWARDS = np.array([0.1, -0.2, 0.7, 1.0, 0.0, -0.3, 0.2, 0.05, -1.0, 0.4, 0.6, -0.1, 0.0, 0.3, 0.9, -0.5])
VALUES = np.array([0.2, 0.4, 0.5, 0.8, -0.1, -0.2, 0.3, 0.1, -0.6, 0.35, 0.5, 0.0, 0.25, 0.1, 0.7, -0.2])
AFTER = np.array([0.0, 0.45, 0.0, -0.3, 0.0, 0.15])


def tensor(array, dtype=torch.float64, grad=False):
    return torch.tensor(np.asarray(array), dtype=dtype, requires_grad=grad)


def sequence():
    return torch.from_numpy(SEQUENCE)


def lengths():
    return torch.tensor(LENGTHS)


def tolerance(dtype):
    """rtol and atol of an agreement with float64."""
    return {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}


def close(ours, expected, dtype):
    """Same dtype, no NaN, within the tolerance of that dtype."""
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours.detach().double().numpy(), expected, **tolerance(dtype))
