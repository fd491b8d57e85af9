"""The sampler: filters and draws against values by hand, loops in plain Python, and chi-square."""

import math

import pytest
import torch

from ostinato.core.errors import UserError
from ostinato.generation.filters import FIRST_LOOK, candidates, penalised, ranked
from ostinato.generation.sampler import SamplingParams, first_maximum, pick, sample, uniform

P = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64)


def kept(p: torch.Tensor, top_k: int | None = None, top_p: float = 1.0, min_p: float = 0.0) -> list[float]:
    """The probabilities that survive, in the order of ids; 0 for the others."""
    ids, left = candidates(p.log().float(), top_k, top_p, min_p)
    return torch.zeros_like(p).scatter(1, ids, left)[0].tolist()


def test_filters_on_a_distribution_made_by_hand() -> None:
    near = lambda *values: pytest.approx(values, abs=1e-7)  # noqa: E731
    assert kept(P) == near(0.1, 0.4, 0.2, 0.3)
    assert kept(P, top_k=2) == near(0, 0.4, 0, 0.3)
    assert kept(P, top_p=0.69) == near(0, 0.4, 0, 0.3)
    assert kept(P, top_p=0.71) == near(0, 0.4, 0.2, 0.3)  # the crossing token included
    assert kept(P, top_k=2, top_p=0.5) == near(0, 0.4, 0, 0)  # measured after top_k: 0.4 / 0.7 > 0.5
    assert kept(P, min_p=0.6) == near(0, 0.4, 0, 0.3)  # at least 0.24
    assert kept(P, top_p=1e-9) == near(0, 0.4, 0, 0)  # one always survives
    assert kept(P, top_k=9) == near(0.1, 0.4, 0.2, 0.3)  # more than there are
    tied = torch.full((1, 4), 0.25, dtype=torch.float64)
    assert kept(tied, top_k=2) == near(0.25, 0.25, 0, 0)  # ties to the lower id
    assert kept(tied, top_p=0.5) == near(0.25, 0.25, 0, 0)  # two of them reach it


@pytest.mark.parametrize("spread", [0.01, 3.0])  # all of a large vocabulary is needed, or a few tokens are
@pytest.mark.parametrize("top_p", [0.5, 0.95])
def test_top_p_on_a_large_vocabulary_is_that_of_a_loop(spread: float, top_p: float) -> None:
    p = (torch.randn(3, 4 * FIRST_LOOK, generator=torch.Generator().manual_seed(1)) * spread).double().softmax(-1)
    ids, left = candidates(p.log().float(), None, top_p, 0.0)
    for row in range(3):
        scores, mass, expected = p[row].log().float(), 0.0, []
        for index in sorted(range(p.shape[1]), key=lambda i: (-float(scores[i]), i)):
            if mass >= top_p:
                break
            mass += float(scores.double().softmax(-1)[index])
            expected.append(index)
        assert ids[row, : len(expected)].tolist() == expected
        assert (left[row] > 0).sum() == len(expected)


def test_ranks_go_by_value_then_by_id() -> None:
    scores = torch.tensor([[1.0, -1.0, 3.0, 0.0, -0.0, 3.0, -torch.inf, -2.0]])
    assert ranked(scores, 8).tolist() == [[2, 5, 0, 3, 4, 1, 7, 6]]
    assert ranked(scores, 3).tolist() == [[2, 5, 0]]


def test_repetition_penalty_by_hand() -> None:
    logits, seen = torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[True, True, False]])
    assert penalised(logits, seen, 2.0)[0].tolist() == [1.0, -4.0, 1.0]


def test_the_penalty_comes_before_the_temperature_and_never_into_log_probs() -> None:
    logits, seen = torch.tensor([[2.0, 1.9, -1.0]]), torch.tensor([[True, False, False]])
    for temperature in (0.0, 0.001):  # so cold that the maximum is drawn
        params = SamplingParams(temperature=temperature, repetition_penalty=1.5)
        drawn = sample(logits, seen, torch.tensor([0.5]), params)
        assert drawn.tokens.tolist() == [1]  # 2.0 / 1.5 < 1.9
    warm = sample(logits, seen, torch.tensor([0.0]), SamplingParams(temperature=0.5, repetition_penalty=1.5))
    assert warm.tokens.tolist() == [0]
    assert warm.log_probs.item() == pytest.approx(float((logits / 0.5).log_softmax(-1)[0, 0]), abs=1e-6)


@pytest.mark.parametrize("filters", [{}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.9}])
def test_log_probs_are_the_models_at_the_temperature_before_filters(filters: dict) -> None:
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)) * 3
    draws = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = sample(logits, None, draws, SamplingParams(temperature=0.6, logprobs=3, **filters))
    expected = (logits.double() / 0.6).log_softmax(-1)
    torch.testing.assert_close(drawn.log_probs, expected.gather(1, drawn.tokens[:, None])[:, 0].float())
    assert drawn.top is not None
    torch.testing.assert_close(drawn.top[1], expected.topk(3).values.float())
    assert drawn.top[0].tolist() == expected.topk(3).indices.tolist()


def test_greedy_takes_the_lowest_of_equal_maxima_and_its_log_prob_at_temperature_one() -> None:
    for width in (3, 64, 200):
        logits = torch.zeros(2, width)
        logits[0, [width // 2, width - 1]] = 2.0
        drawn = sample(logits, None, torch.tensor([0.9, 0.9]), SamplingParams(temperature=0.0))
        assert drawn.tokens.tolist() == [width // 2, 0]
        assert drawn.log_probs[1].item() == pytest.approx(-math.log(width))
        assert first_maximum(-logits - 5).tolist() == [0, 0]


def test_a_draw_is_the_inverse_of_the_cumulative_distribution() -> None:
    """Against a loop in plain Python, with 200 tokens (no multiple of a block), some of them impossible."""
    p = torch.rand(40, 200, generator=torch.Generator().manual_seed(3))
    p[:, ::3] = 0.0
    p[0, 5:] = 0.0
    p /= p.sum(-1, keepdim=True)
    draws = torch.rand(40, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    draws[:3] = torch.tensor([1 - 2.0**-52, 0.0, 1 - 2.0**-52], dtype=torch.float64)
    for row, (found, draw) in enumerate(zip(pick(p, draws).tolist(), draws.tolist(), strict=True)):
        total, target = 0.0, draw * float(p[row].double().sum())
        for expected in range(200):
            total += float(p[row, expected])
            if total > target and p[row, expected] > 0:
                break
        assert found == expected or row in (0, 2)  # at the very end the last possible token
    assert pick(p, draws)[0].item() == 4 and pick(p, draws)[2].item() == 199
    assert 0 <= pick(p * torch.nan, draws).min() <= pick(p * torch.nan, draws).max() < 200
    assert pick(p, torch.zeros(40, dtype=torch.float64)).tolist() == [1] * 40  # token 0 is impossible


def test_a_row_depends_on_no_other() -> None:
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(5)) * 2
    draws = torch.rand(64, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    for params in (
        SamplingParams(),
        SamplingParams(temperature=0.7, top_p=0.9),
        SamplingParams(top_k=20, min_p=0.01),
        SamplingParams(min_p=0.05, logprobs=2),
    ):
        whole = sample(logits, None, draws, params)
        for rows in ([0], [63], [5, 60, 2], list(range(63, -1, -1))):
            part = sample(logits[rows], None, draws[rows], params)
            assert torch.equal(part.tokens, whole.tokens[rows])
            assert torch.equal(part.log_probs, whole.log_probs[rows])


def test_uniform_is_splitmix64() -> None:
    def reference(key: int, position: int) -> float:
        mask = (1 << 64) - 1
        z = (key + (position + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 12) * 2.0**-52

    keys, positions = [0, 1, 2**62 + 12345], [0, 5, 1000]
    found = uniform(torch.tensor(keys), torch.tensor(positions)).tolist()
    assert found == [reference(k, p) for k, p in zip(keys, positions, strict=True)]


@pytest.mark.parametrize("filters", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_sampling_follows_the_filtered_softmax_by_chi_square(filters: dict) -> None:
    logits, count = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5]), 20000
    params = SamplingParams(**filters)
    expected = (logits.double() / params.temperature).softmax(-1)
    if "top_k" in filters:
        expected[[0, 3]] = 0.0  # the three largest are tokens 2, 1, 4
    if "top_p" in filters:
        expected[3] = 0.0  # 0.559 + 0.206 + 0.125 + 0.076 >= 0.9 > 0.89
    if "min_p" in filters:
        expected[3] = 0.0  # 0.0279 / 0.559 = 0.05 < 0.1
    expected /= expected.sum()
    draws = uniform(torch.arange(count), torch.full((count,), 3))
    tokens = sample(logits.expand(count, 5).contiguous(), None, draws, params).tokens
    observed, possible = torch.bincount(tokens, minlength=5), expected > 0
    assert observed[~possible].sum() == 0
    chi_square = float(((observed - count * expected) ** 2 / (count * expected))[possible].sum())
    assert chi_square < 18.5  # the 0.1 % point at 4 degrees of freedom


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_p": 0.0}, r"generation\.top_p: 0.*above 0"),
        ({"temperature": -1.0}, r"generation\.temperature: -1.*0 or more"),
        ({"temperature": math.nan}, r"generation\.temperature: nan"),
        ({"max_new_tokens": 0}, r"generation\.max_new_tokens: 0.*at least 1"),
        ({"logprobs": 21}, r"generation\.logprobs: 21.*from 0 to 20"),
        ({"stop": ("",)}, r"generation\.stop"),
        ({"repetition_penalty": 0.0}, r"generation\.repetition_penalty: 0.*above 0"),
    ],
)
def test_bad_parameters_are_named(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SamplingParams(**options)
