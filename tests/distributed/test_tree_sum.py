"""The tree of elastic sums, beside the same tree written as a recursion."""

import pytest
import torch
from torch import Tensor

from ostinato.distributed.tree_sum import Counter, TreeSum


def by_halves(leaves: list[Tensor]) -> Tensor:
    """The left half as large a power of two as there is room for."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return by_halves(leaves[:left]) + by_halves(leaves[left:])


@pytest.mark.parametrize("count", range(1, 20))
def test_leaves_are_added_along_one_tree_however_many_come_at_once(count: int) -> None:
    """Numbers of very different size, so that every other order gives other bits."""
    leaves = list(torch.randn(count, 5, generator=torch.Generator().manual_seed(count)) * 10.0 ** torch.arange(5))
    wanted = by_halves(leaves)
    for width in (1, 2, 4, 8):
        counter = Counter()
        for start in range(0, count, width):
            round_of = torch.stack([*leaves[start : start + width], *[torch.zeros(5)] * width][:width])
            while len(round_of) > 1:
                round_of = round_of[0::2] + round_of[1::2]
            counter.push(round_of[0])
        assert torch.equal(counter.total(), wanted)
        assert not counter.sums


def test_a_parameter_that_took_no_part_has_a_zero_gradient_and_no_zero_is_negative() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    tree = TreeSum([used, unused])
    for weight, last in ((-0.0, False), (-0.0, True)):
        (used * weight).sum().backward()
        tree.add(last=last)
    assert used.grad is not None and unused.grad is not None
    assert not used.grad.signbit().any() and torch.equal(unused.grad, torch.zeros(3))
