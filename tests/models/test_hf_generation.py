"""Texts by models of transformers in our engine: those of transformers itself, and the same bits in any company."""

import copy

import pytest
import torch

from ostinato.core.samples import Sample
from ostinato.data.tokenizer_kinds import byte
from ostinato.generation.consistency import equal_shapes
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams
from tests.models.test_hf import V, made, theirs

PROMPTS = [[5, 9, 3], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [40, 41], [12] * 6]
KINDS = ["gpt_neox", "gemma2", "phi", "bloom"]  # the last is read anew for each token


def texts(found: list[Sample]) -> list[tuple[list[int], list[float]]]:
    return [(one.response_ids, one.log_probs) for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_texts_are_those_of_transformers(kind: str) -> None:
    model = made(kind)
    other = theirs(model, kind)
    found = Generator(byte(), slots=4).generate(model, PROMPTS, SamplingParams(temperature=0.0, max_new_tokens=12))
    for prompt, sample in zip(PROMPTS, found, strict=True):
        given = torch.tensor([prompt])
        wanted = other.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=12, do_sample=False, eos_token_id=V + 1
        )
        assert sample.response_ids == wanted[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_has_the_same_bits_in_any_company(kind: str) -> None:
    model, params = made(kind), SamplingParams(max_new_tokens=8, seed=3)
    together = texts(Generator(byte(), slots=4).generate(model, PROMPTS, params))
    for number, prompt in enumerate(PROMPTS):
        alone = Generator(byte(), slots=4).generate(model, [prompt], params, numbers=[number])
        assert texts(alone) == together[number : number + 1]


def test_widths_are_free_where_each_token_is_read_anew() -> None:
    cpu = torch.device("cpu")
    assert equal_shapes(made("gpt_neox"), 16, 30, cpu).widths == (16,)
    assert equal_shapes(made("bloom"), 16, 30, cpu).widths == (1, 2, 4, 8, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_after_an_update_it_samples_from_the_new_weights(kind: str) -> None:
    model, params = made(kind).train(), SamplingParams(max_new_tokens=8)
    before = texts(Generator(byte(), slots=4).generate(model, PROMPTS, params))
    assert model.training and model.blocks()[0].training
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    after = texts(Generator(byte(), slots=4).generate(model, PROMPTS, params))
    fresh = Generator(byte(), slots=4).generate(copy.deepcopy(model), PROMPTS, params)
    assert before != after and texts(fresh) == after
