"""The engine: equal to a loop without a cache, and a sample that depends on its own key alone, to the bit."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ostinato.core import seeding
from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.samples import Sample
from ostinato.generation.decoding import Rereading, begin
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams, uniform
from ostinato.models.decoding import CachedDecoding
from ostinato.models.fused_decoding import FusedDecoding
from tests.generation.models import PROMPTS, SHAPES, ids, model, tokenizer

TOKENIZER = tokenizer()
Model = Callable[[str], Any]


class Plain(nn.Module):
    """A user's model that offers nothing: logits of whole texts."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.max_positions = inner, inner.max_positions

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(tokens)


def fused(shape: str) -> Any:
    return model(shape)


def hooked(shape: str) -> Any:
    """A model with a hook that must be called: it goes through its own modules."""
    net = model(shape)
    net.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    return net


def rereading(shape: str) -> Any:
    return Plain(model(shape))


def equal(one: Sample, other: Sample) -> bool:
    return (one.response_ids, one.log_probs, one.top) == (other.response_ids, other.log_probs, other.top)


def test_the_three_ways_are_taken() -> None:
    assert isinstance(begin(fused("llama"), 2, 64, exact=True), FusedDecoding)
    assert type(begin(hooked("llama"), 2, 64, exact=True)) is CachedDecoding
    assert isinstance(begin(rereading("llama"), 2, 64, exact=True), Rereading)
    # angles that depend on the length of the text: keys cannot be kept beyond the original length
    dynamic = model("llama", 64, rope_scaling="dynamic", rope_factor=2.0, rope_original_length=32)
    assert isinstance(begin(dynamic, 2, 64, exact=True), Rereading)
    assert isinstance(begin(dynamic, 2, 32, exact=True), FusedDecoding)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("make", [fused, hooked, rereading])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_equals_a_loop_without_a_cache(make: Model, shape: str, temperature: float) -> None:
    """Tokens of the model's own distribution over the whole text, by the number that the key gives to the position."""
    net, params = make(shape), SamplingParams(max_new_tokens=20, temperature=temperature, seed=3)
    for found in Generator(TOKENIZER, slots=4).generate(net, ids(PROMPTS), params, step=5):
        key = torch.tensor(seeding.key(3, "generation", 5, found.prompt, 0))
        text = list(found.prompt_ids)
        for token, log_prob in zip(found.response_ids, found.log_probs, strict=True):
            logits = net(torch.tensor([text]))[0, -1].detach().double() / (temperature or 1.0)
            draw = float(uniform(key, torch.tensor(len(text))))
            cumulative = list(itertools.accumulate(logits.softmax(-1).tolist()))
            drawn = next(index for index, total in enumerate(cumulative) if total > draw)
            assert token == (drawn if temperature else int(logits.argmax()))
            assert log_prob == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-5)
            text.append(token)


@pytest.mark.parametrize(
    ("make", "shape", "threads"),
    [
        *((make, shape, 1) for make in (fused, hooked, rereading) for shape in ("llama", "window")),
        *((make, "llama", 2) for make in (fused, hooked)),
    ],
)
def test_a_sample_has_the_same_bits_in_any_company(make: Model, shape: str, threads: int) -> None:
    net, prompts = make(shape), ids(PROMPTS * 4)
    torch.set_num_threads(threads)
    params = SamplingParams(max_new_tokens=8 // threads, n=4, seed=7, top_p=0.95, logprobs=2)
    generate = lambda slots, chosen: Generator(TOKENIZER, slots).generate(  # noqa: E731
        net, [prompts[number] for number in chosen], params, numbers=chosen, step=2
    )
    together = generate(64, range(16))  # 64 samples in 64 slots
    assert [(s.prompt, s.sample) for s in together] == [(p, n) for p in range(16) for n in range(4)]
    assert not equal(together[0], together[1]) and not equal(together[0], together[16])
    for chosen in ([0], [9], [15, 3, 8], list(range(15, -1, -1))):  # alone, a few, in reverse: other slots
        found = generate(64, chosen)
        for place, number in enumerate(chosen):
            assert all(map(equal, found[4 * place : 4 * place + 4], together[4 * number :][:4]))
    again = Generator(TOKENIZER, 64).generate(net, prompts[:1], SamplingParams(max_new_tokens=8 // threads, seed=8))
    assert again[0].response_ids != together[0].response_ids
    torch.set_num_threads(1)


def test_fewer_slots_than_samples_are_taken_again_and_again() -> None:
    net, prompts = model(), ids(PROMPTS)
    params = SamplingParams(max_new_tokens=25, n=5, temperature=1.2)
    many, few = Generator(TOKENIZER, 32), Generator(TOKENIZER, 4)
    one, other = many.generate(net, prompts, params), few.generate(net, prompts, params)
    assert [s.response_ids for s in one] == [s.response_ids for s in other]
    assert [s.text for s in one] == [s.text for s in other]
    assert len({len(s.response_ids) for s in one}) > 1  # they end at different times, so slots change hands
    for generator in (many, few):
        assert generator.stats.prefill_tokens == sum(map(len, prompts))  # once for five samples, in whatever slots
        assert generator.stats.response_tokens == sum(len(s.response_ids) for s in one)
    assert many.stats.decode_steps == max(len(s.response_ids) for s in one) - 1
    # no slot waited: all of them work until fewer samples than slots are left
    assert few.stats.decode_steps <= (few.stats.response_tokens - 20) / 4 + 25


def test_not_exact_gives_the_same_up_to_rounding() -> None:
    net, params = model(), SamplingParams(max_new_tokens=15, n=2)
    exact = Generator(TOKENIZER).generate(net, ids(PROMPTS), params)
    rough = Generator(TOKENIZER, exact=False).generate(net, ids(PROMPTS), params)
    assert [s.response_ids for s in exact] == [s.response_ids for s in rough]
    for one, other in zip(exact, rough, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)


def certain(net: Any, *tokens: int) -> Any:
    """The model that says these tokens in turn, each after the one before, and the last again and again."""
    with torch.no_grad():
        net.lm_head.weight.zero_()
        net.model.embed_tokens.weight.zero_()
        for block in net.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        for place, (before, after) in enumerate(zip((1, *tokens), (*tokens, tokens[-1]), strict=True)):
            net.model.embed_tokens.weight[before] = 0.0
            net.model.embed_tokens.weight[before, place] = 1.0
            net.lm_head.weight[after, place] = 9.0
    return net


def only(net: Any, prompt: list[int], **options: Any) -> Sample:
    (found,) = Generator(TOKENIZER).generate(net, [prompt], SamplingParams(temperature=0.0, **options))
    return found


def test_stop_reasons() -> None:
    end, (a, b, c) = TOKENIZER.eos_ids[0], TOKENIZER.encode("abc")
    net = certain(model(), a, b, end)
    eos = only(net, [1], max_new_tokens=9)
    assert (eos.stop_reason, eos.response_ids, eos.text) == ("eos", [a, b, end], "ab")
    assert len(eos.log_probs) == 3 and not eos.truncated  # the end has a log-prob: it is trained
    assert only(net, [1], max_new_tokens=3).stop_reason == "eos"  # also exactly at the limit
    assert only(net, [1] * 61, max_new_tokens=9).stop_reason == "eos"  # and at the end of the context of 64
    length = only(net, [1], max_new_tokens=2)
    assert (length.stop_reason, length.text, length.truncated) == ("length", "ab", True)
    assert (only(net, [1] * 62, max_new_tokens=2).stop_reason) == "length"
    context = only(net, [1] * 62, max_new_tokens=9)
    assert (context.stop_reason, context.text, context.truncated) == ("context", "ab", True)
    net = certain(model(), a, b, c)
    stop = only(net, [1], max_new_tokens=9, stop=("zz", "bcc"))
    assert (stop.stop_reason, stop.text, stop.response_ids) == ("stop_string", "a", [a, b, c, c])  # ids are kept
    assert only(net, [1], max_new_tokens=4, stop=("bcc",)).stop_reason == "stop_string"
    assert only(net, [1], max_new_tokens=3, stop=("bcc",)).stop_reason == "length"
    assert only(net, [1], max_new_tokens=1).stop_reason == "length"


def test_ids_are_those_that_were_sampled_whatever_their_text() -> None:
    """Bytes that are no UTF-8 stay the ids that they were; text only shows them."""
    torn = TOKENIZER.encode("é")[0]
    found = only(certain(model(), torn), [1], max_new_tokens=3)
    assert found.response_ids == [torn] * 3 and "\ufffd" in found.text
    assert TOKENIZER.encode(found.text) != found.response_ids


def test_a_stop_string_may_be_longer_than_a_token_and_stand_far_from_the_start() -> None:
    a, b = TOKENIZER.encode("é")
    net = certain(model(length=128), *TOKENIZER.encode("xy"), a, b)
    found = only(net, [1], max_new_tokens=99, stop=("yé",))
    assert (found.text, len(found.response_ids), found.stop_reason) == ("x", 4, "stop_string")


def test_rows_numbers_and_news_of_what_happens() -> None:
    net, params = model(), SamplingParams(max_new_tokens=3, n=2)
    done: list[Sample] = []
    heard: list[int] = []
    found = Generator(TOKENIZER).generate(
        net,
        ids(PROMPTS[:2]),
        params,
        numbers=[40, 7],
        rows=[{"gold": "x"}, {"gold": "y"}],
        progress=done.append,
        heard=lambda sample: heard.append(len(sample.response_ids)),
    )
    assert [(s.prompt, s.sample, s.row and s.row["gold"]) for s in found] == [
        (40, 0, "x"),
        (40, 1, "x"),
        (7, 0, "y"),
        (7, 1, "y"),
    ]
    assert sorted(map(id, done)) == sorted(map(id, found)) and all(s.stop_reason for s in done)
    assert sorted(heard) == sorted(n + 1 for s in found for n in range(len(s.response_ids)))
    assert Generator(TOKENIZER).generate(net, [], params) == []


def test_alternatives() -> None:
    found = only(model(), TOKENIZER.encode("hello"), max_new_tokens=5, logprobs=3)
    assert [len(row) for row in found.top] == [3] * len(found.response_ids)
    for row, token, log_prob in zip(found.top, found.response_ids, found.log_probs, strict=True):
        assert row[0][0] == token  # greedy
        assert row[0][1] == pytest.approx(log_prob, abs=1e-6)
        assert [value for _, value in row] == sorted((value for _, value in row), reverse=True)


def test_the_penalty_counts_prompt_and_response() -> None:
    """With an enormous penalty no id occurs twice, neither of the prompt nor of the response."""
    net, prompts = model(), ids(PROMPTS)
    params = SamplingParams(max_new_tokens=30, repetition_penalty=1e9)
    for found in Generator(TOKENIZER, slots=2).generate(net, prompts, params):
        logits = net(torch.tensor([found.prompt_ids]))[0, -1]
        assert (logits > 0).sum() > 100  # there is always a positive one that is unseen
        assert len(set(found.response_ids)) == len(found.response_ids)
        assert not set(found.response_ids) & set(found.prompt_ids)


@pytest.mark.parametrize("make", [fused, hooked])
def test_after_an_update_it_samples_from_the_new_weights(make: Model) -> None:
    net, params = make("llama"), SamplingParams(max_new_tokens=10, n=2)
    generator = Generator(TOKENIZER)
    before = generator.generate(net, ids(PROMPTS), params)
    optimizer = torch.optim.SGD(net.parameters(), lr=5.0)
    net.train()(torch.tensor([[1, 2, 3]])).sum().backward()
    optimizer.step()
    after = generator.generate(net, ids(PROMPTS), params)
    fresh = Generator(TOKENIZER).generate(copy.deepcopy(net), ids(PROMPTS), params)
    assert all(map(equal, after, fresh)) and not any(map(equal, before, after))


class Adapted(nn.Module):
    """A projection with a low-rank addition, as adapters make it."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner, self.bias = inner, inner.bias
        self.down = nn.Linear(inner.in_features, 2, bias=False)
        self.up = nn.Linear(2, inner.out_features, bias=False)
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=0.3, generator=torch.Generator().manual_seed(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + self.up(self.down(x))

    def merged_weight(self) -> torch.Tensor:
        return self.inner.weight + self.up.weight @ self.down.weight


def test_adapters_that_can_be_merged_are_decoded_fused() -> None:
    net, params = model("gpt2"), SamplingParams(max_new_tokens=12, n=2)
    before = Generator(TOKENIZER).generate(net, ids(PROMPTS), params)
    for block in net.model.layers:
        block.self_attn.q_proj, block.mlp.down_proj = Adapted(block.self_attn.q_proj), Adapted(block.mlp.down_proj)
    assert isinstance(begin(net, 2, 64, exact=True), FusedDecoding)
    merged = Generator(TOKENIZER).generate(net, ids(PROMPTS), params)
    net.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    apart = Generator(TOKENIZER).generate(net, ids(PROMPTS), params)
    assert [s.response_ids for s in merged] == [s.response_ids for s in apart] != [s.response_ids for s in before]
    for one, other in zip(merged, apart, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)


@pytest.mark.parametrize("make", [fused, hooked])
def test_modes_are_restored_and_dropout_is_off(make: Model) -> None:
    net = make("stretched").train()
    net.model.layers[1].eval()
    params = SamplingParams(max_new_tokens=4)
    assert equal(*(Generator(TOKENIZER).generate(net, ids(["ab"]), params)[0] for _ in range(2)))
    assert net.training and net.model.layers[0].mlp.training and not net.model.layers[1].mlp.training
    with pytest.raises(UserError):
        Generator(TOKENIZER).generate(net, [[1] * 99], params)
    assert net.training


def test_in_bf16_log_probs_are_those_of_a_forward_pass_in_bf16() -> None:
    net, params = model(), SamplingParams(max_new_tokens=20, n=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for make in (net, hooked("llama")):
            for found in Generator(TOKENIZER).generate(make, ids(PROMPTS), params):
                text = torch.tensor([found.prompt_ids + found.response_ids])
                labels = torch.cat(
                    (torch.full((1, len(found.prompt_ids) - 1), -100), text[:, len(found.prompt_ids) :]), 1
                )
                with torch.no_grad():
                    scores = net(text[:, :-1], labels=labels).log_probs
                difference = (scores - torch.tensor(found.log_probs)).abs()  # eight bits of mantissa
                assert difference.mean() < 0.06 and difference.max() < 0.3
    assert net.lm_head.weight.dtype == torch.float32


def test_what_cannot_be_generated_is_named() -> None:
    net = model()
    with pytest.raises(UserError, match=r"prompt 1 has 64 tokens.*context of 64"):
        Generator(TOKENIZER).generate(net, [[1], [1] * 64], SamplingParams())
    with pytest.raises(UserError, match=r"prompt 0 holds the id 999; the model knows 0 to"):
        Generator(TOKENIZER).generate(net, [[5, 999]], SamplingParams())
    with pytest.raises(UserError, match=r"slots: 7 is no power of two"):
        Generator(TOKENIZER, slots=7)
    nameless = type(TOKENIZER)(TOKENIZER._backend)  # neither a begin nor an end
    with pytest.raises(UserError, match=r"prompt 0 is empty"):
        Generator(nameless).generate(net, [[]], SamplingParams())
    begun = only(net, [], max_new_tokens=1)
    assert begun.prompt_ids == [TOKENIZER.eos_id if TOKENIZER.bos_id is None else TOKENIZER.bos_id]
    net.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(OstinatoError, match=r"not numbers after 0 tokens of sample 0 of prompt 0.*diverged"):
        only(net, [1], max_new_tokens=2)


def test_without_memory_it_says_so() -> None:
    net = model(length=1 << 45)
    with pytest.raises(UserError, match=r"memory does not suffice.*max_new_tokens"):
        Generator(TOKENIZER).generate(net, [[1]], SamplingParams(max_new_tokens=1 << 44))
