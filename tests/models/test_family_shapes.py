"""The native transformer against transformers' class of each family: values, gradients, greedy texts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ostinato.core.config import Component
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from ostinato.data.tokenizer_kinds import byte
from ostinato.generation.decoding import Rereading, begin
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams
from ostinato.models.decoding import CachedDecoding
from ostinato.models.fused_decoding import FusedDecoding
from tests.models.family_shapes import FAMILIES, LENGTH, ORIGINAL, VOCABULARY, WINDOW, ours, pair, renamed

pytest.importorskip("transformers")
SIZES = (5, 22, ORIGINAL, 44)  # within and beyond the window and the original length of the rope
assert SIZES[0] < WINDOW < SIZES[1] and SIZES[3] > ORIGINAL
every_family = pytest.mark.parametrize("family", list(FAMILIES))


def texts() -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(0, VOCABULARY, (size,), generator=draw) for size in SIZES]


def alone(model: Any) -> list[Tensor]:
    """Logits of each text by transformers, by a fresh copy: `dynamic` remembers the longest text it saw."""
    return [copy.deepcopy(model)(text[None]).logits[0] for text in texts()]


def laid_out(layout: str) -> tuple[Tensor, Tensor | None, Tensor | None, list[tuple[int, slice]]]:
    """Tokens, positions, documents, and where each text is: its row and its columns."""
    sizes, width = torch.tensor(SIZES), LENGTH
    if layout == "packed":  # three in one row, the longest in another, padding behind
        places = [(0, slice(0, 5)), (0, slice(5, 27)), (0, slice(27, 59)), (1, slice(0, 44))]
    else:
        places = [(r, slice(0, n) if layout == "right" else slice(width - n, width)) for r, n in enumerate(sizes)]
    tokens = torch.full((places[-1][0] + 1, width), 3)
    positions, documents = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    for number, ((row, columns), text) in enumerate(zip(places, texts(), strict=True)):
        tokens[row, columns], documents[row, columns] = text, number
        positions[row, columns] = torch.arange(len(text))
    return tokens, positions, documents, places


@every_family
@torch.no_grad()
def test_logits_equal_transformers(family: str) -> None:
    model, own = pair(family)
    for text, wanted in zip(texts(), alone(model), strict=True):
        torch.testing.assert_close(own(text[None])[0], wanted, rtol=0, atol=1e-5)


@every_family
@pytest.mark.parametrize("layout", ["right", "left", "packed"])
@torch.no_grad()
def test_a_text_has_its_logits_wherever_it_stands(family: str, layout: str) -> None:
    for attention in ("auto", "sdpa"):
        model, own = pair(family, attention=attention)
        tokens, positions, documents, places = laid_out(layout)
        logits = own(tokens, positions, documents)
        for (row, columns), wanted in zip(places, alone(model), strict=True):
            torch.testing.assert_close(logits[row, columns], wanted, rtol=0, atol=1e-5)


@every_family
@pytest.mark.parametrize("layout", ["right", "packed"])
def test_gradients_equal_transformers(family: str, layout: str) -> None:
    model, own = pair(family)
    for text in texts():
        logits = copied(model)(text[None]).logits[0, :-1]
        F.cross_entropy(logits, text[1:], reduction="sum").backward()
    tokens, positions, documents, _ = laid_out(layout)
    follows = documents[:, 1:] == documents[:, :-1]
    labels = F.pad(tokens[:, 1:].masked_fill(~follows | (documents[:, 1:] < 0), -100), (0, 1), value=-100)
    (-own(tokens, positions, documents, labels=labels).log_probs.sum()).backward()
    wanted = renamed(family, {name: weight.grad for name, weight in model.named_parameters()})
    for name, weight in own.named_parameters():
        assert (weight.grad - wanted[name]).norm() <= 2e-5 * wanted[name].norm() + 1e-6, name


def copied(model: Any) -> Any:
    """A model of its own memory with the very weights, so that gradients come together."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


@every_family
@torch.no_grad()
@pytest.mark.parametrize("way", [FusedDecoding, CachedDecoding])
def test_greedy_texts_equal_transformers(family: str, way: type) -> None:
    model, own = pair(family)
    if way is CachedDecoding:
        own.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    assert type(begin(own, 4, ORIGINAL, exact=True)) is way
    for sizes in ((3, 12, 9), (24,)):  # up to the rope's original length, and beyond
        prompts = [text[:size].tolist() for text, size in zip(texts()[1:], sizes, strict=False)]
        found = Generator(byte(), slots=4).generate(own, prompts, SamplingParams(max_new_tokens=16, temperature=0.0))
        for prompt, sample in zip(prompts, found, strict=True):
            ids = torch.tensor([prompt])
            wanted = copy.deepcopy(model).generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=16,
                do_sample=False,
                use_cache=family != "dynamic",  # there old keys keep the angles of a shorter text
            )
            assert sample.response_ids == wanted[0, len(prompt) :].tolist()
            if len(wanted[0]) <= ORIGINAL or not own.rope or not own.rope.options.by_length:
                logits = copy.deepcopy(model)(wanted).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                log_probs = logits.gather(1, wanted[0, len(prompt) :, None])[:, 0].tolist()
                assert sample.log_probs == pytest.approx(log_probs, abs=2e-5)


def test_angles_by_length_are_kept_to_the_original_length_only() -> None:
    for family in ("dynamic", "phi3_longrope"):
        own = pair(family)[1]
        assert isinstance(begin(own, 2, ORIGINAL, exact=True), FusedDecoding)
        assert isinstance(begin(own, 2, ORIGINAL + 1, exact=True), Rereading)


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "olmo2", "phi3", "qwen2_window"])
def test_a_sample_has_the_same_bits_in_any_company(family: str) -> None:
    own, prompts = pair(family)[1], [text[:9].tolist() for text in texts()]
    params = SamplingParams(max_new_tokens=12, n=2, seed=7)
    together = Generator(byte(), 8).generate(own, prompts, params)
    for number in (0, 3):
        found = Generator(byte(), 8).generate(own, [prompts[number]], params, numbers=[number])
        for one, other in zip(found, together[2 * number :], strict=False):
            assert (one.response_ids, one.log_probs) == (other.response_ids, other.log_probs)


@pytest.mark.parametrize("family", ["gemma3", "olmo2"])
def test_rounding_to_bf16_is_that_of_transformers(family: str) -> None:
    """Weights in bf16: the same formulas in the same order give logits within a few roundings of 2**-8."""
    model, own = pair(family)
    text = texts()[3][None]
    with torch.no_grad():
        found, wanted = own.bfloat16()(text), model.bfloat16()(text).logits.float()
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert own.state_dict()["model.norm.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "olmo2", "phi3"])
@torch.no_grad()
def test_generation_in_bf16_gives_the_log_probs_of_a_forward_pass(family: str) -> None:
    own, prompts = pair(family)[1].bfloat16(), [text[:9].tolist() for text in texts()]
    for found in Generator(byte()).generate(own, prompts, SamplingParams(max_new_tokens=12)):
        text = torch.tensor([found.prompt_ids + found.response_ids])
        scores = own(text[:, :-1], labels=text[:, 1:]).log_probs[len(found.prompt_ids) - 1 :]
        difference = (scores - torch.tensor(found.log_probs)).abs()  # eight bits of mantissa
        assert difference.mean() < 0.06 and difference.max() < 0.3


@pytest.mark.parametrize("family", ["dynamic", "phi3_longrope"])
def test_not_exact_means_no_other_angles(family: str) -> None:
    """Texts on both sides of the original length, together."""
    own, prompts = pair(family)[1], [text[:size].tolist() for text, size in zip(texts(), (5, 20, 30), strict=False)]
    params = SamplingParams(max_new_tokens=16, temperature=0.0)
    exact, rough = (Generator(byte(), exact=exact).generate(own, prompts, params) for exact in (True, False))
    assert [sample.response_ids for sample in exact] == [sample.response_ids for sample in rough]


def test_fresh_norms_do_nothing() -> None:
    for name, weight in ours("gemma3").named_parameters():
        if "norm" in name:
            assert not weight.any(), name
    assert all(bool((w == 1).all()) for name, w in ours("olmo2").named_parameters() if "norm" in name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_layers": [0]}, "set window"),
        ({"rope_local_base": 1e4}, "set window"),
        ({"window": 4, "window_layers": [1, 9]}, r"window_layers \[1, 9\]: the layers are 0 to 3"),
        ({"rope_fraction": 1.5}, "rope_fraction 1.5 is no part of a head"),
        ({"rope_fraction": 0.33}, "must be even, not 21"),
        ({"rope_scaling": "longrope"}, "rope_short_factors: 0 numbers, a head has 32 pairs"),
        ({"attention": "documents", "attention_softcap": 3.0}, "documents has no attention_softcap"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, UserError), match=message):
        MODELS.build(Component("transformer", options), ModelInputs(9, 16))(torch.zeros((1, 3), dtype=torch.int64))
