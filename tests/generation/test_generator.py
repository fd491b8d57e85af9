"""The plain generator: equal to a loop without a cache, and a sample that depends on its own key alone."""

import math
from pathlib import Path

import pytest
import torch

from ostinato.core.config import Component
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import byte
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams, filtered, penalised, sample, uniform
from ostinato.training.initialise import build_model

SHAPES = {
    "llama": {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2},
    "gpt2": {"width": 32, "layers": 2, "heads": 4, "positions": "learned", "norm": "layer", "mlp": "gelu"},
    "window": {"width": 32, "layers": 2, "heads": 4, "window": 5, "qk_norm": True, "tied_embeddings": True},
}
PROMPTS = ["hello", "a", "the quick brown fox jumps", "zz top"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte()


def model(tokenizer: Tokenizer, shape: str) -> torch.nn.Module:
    torch.set_num_threads(1)
    node = Component("transformer", {**SHAPES[shape], "init_std": 0.3})
    return build_model(node, ModelInputs(tokenizer.vocab_size, 64), 0, torch.device("cpu")).eval()


def ids(tokenizer: Tokenizer, prompts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(prompt) for prompt in prompts]


@pytest.mark.parametrize("shape", list(SHAPES))
def test_greedy_equals_a_loop_without_a_cache(tokenizer: Tokenizer, shape: str) -> None:
    net = model(tokenizer, shape)
    params = SamplingParams(max_new_tokens=20, temperature=0.0)
    for found in Generator(tokenizer).generate(net, ids(tokenizer, PROMPTS), params):
        tokens = list(found.prompt_ids)
        for token, log_prob in zip(found.response_ids, found.log_probs, strict=True):
            logits = net(torch.tensor([tokens]))[0, -1].detach()
            assert token == int(logits.argmax())
            assert log_prob == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-4)
            tokens.append(token)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_sample_is_the_same_alone_and_among_others(tokenizer: Tokenizer, shape: str) -> None:
    net, prompts = model(tokenizer, shape), ids(tokenizer, PROMPTS * 3)
    params = SamplingParams(max_new_tokens=12, n=2, seed=7)
    together = Generator(tokenizer).generate(net, prompts, params)
    assert [(s.prompt, s.sample) for s in together] == [(p, n) for p in range(12) for n in range(2)]
    # the key holds the prompt's place: the first prompt alone is prompt 0 again
    alone = Generator(tokenizer).generate(net, prompts[:1], params)
    assert [s.response_ids for s in alone] == [s.response_ids for s in together[:2]]
    assert [s.log_probs for s in alone] == [s.log_probs for s in together[:2]]
    assert alone[0].response_ids != alone[1].response_ids
    again = Generator(tokenizer).generate(net, prompts[:1], SamplingParams(max_new_tokens=12, n=2, seed=8))
    assert again[0].response_ids != alone[0].response_ids


def test_stop_reasons(tokenizer: Tokenizer) -> None:
    net = model(tokenizer, "llama")
    (length,) = Generator(tokenizer).generate(net, [[5]], SamplingParams(max_new_tokens=3, temperature=0.0))
    assert (length.stop_reason, len(length.response_ids)) == ("length", 3)
    (context,) = Generator(tokenizer).generate(net, [[5] * 60], SamplingParams(max_new_tokens=99, temperature=0.0))
    assert (context.stop_reason, len(context.response_ids)) in {("context", 4), ("eos", len(context.response_ids))}
    stop = tokenizer.decode(length.response_ids[1:2])
    (cut,) = Generator(tokenizer).generate(net, [[5]], SamplingParams(max_new_tokens=9, temperature=0.0, stop=(stop,)))
    assert cut.stop_reason == "stop_string" and stop not in cut.text and len(cut.response_ids) <= 2
    with torch.no_grad():  # every logit but that of the end is far below
        net.lm_head.weight.zero_()
        net.lm_head.weight[tokenizer.eos_id] = 9.0
        net.model.norm.weight.fill_(0.0)
    params = SamplingParams(max_new_tokens=9, temperature=0.0)
    net.model.norm.weight.data.fill_(1.0)
    found = Generator(tokenizer).generate(net, [[5], [6]], params)
    assert {s.stop_reason for s in found} <= {"eos", "length"}


def test_bad_prompts_and_parameters_are_named(tokenizer: Tokenizer) -> None:
    net = model(tokenizer, "llama")
    with pytest.raises(UserError, match=r"prompt 1 has 64 tokens.*context of 64"):
        Generator(tokenizer).generate(net, [[1], [1] * 64], SamplingParams())
    with pytest.raises(UserError, match=r"generation\.top_p: 0.*above 0"):
        SamplingParams(top_p=0.0)


def test_the_models_mode_is_restored(tokenizer: Tokenizer) -> None:
    net = model(tokenizer, "llama").train()
    Generator(tokenizer).generate(net, [[1]], SamplingParams(max_new_tokens=1))
    assert net.training


def test_filters_on_a_distribution_made_by_hand() -> None:
    p = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64)
    kept = lambda **options: filtered(p, SamplingParams(**options))[0].tolist()  # noqa: E731
    assert kept() == [0.1, 0.4, 0.2, 0.3]
    assert kept(top_k=2) == [0, 0.4, 0, 0.3]
    assert kept(top_p=0.7) == [0, 0.4, 0, 0.3]  # 0.4 + 0.3 reaches it
    assert kept(top_p=0.71) == [0, 0.4, 0.2, 0.3]  # the crossing token included
    assert kept(top_k=2, top_p=0.5) == [0, 0.4, 0, 0]  # measured after top_k: 0.4 / 0.7 > 0.5
    assert kept(min_p=0.6) == [0, 0.4, 0, 0.3]  # at least 0.24
    assert kept(top_p=1e-9) == [0, 0.4, 0, 0]  # one always survives
    tied = filtered(torch.full((1, 4), 0.25, dtype=torch.float64), SamplingParams(top_k=2))
    assert tied[0].tolist() == [0.25, 0.25, 0, 0]  # ties to the lower id


def test_repetition_penalty_by_hand() -> None:
    logits, seen = torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[True, True, False]])
    assert penalised(logits, seen, 2.0)[0].tolist() == [1.0, -4.0, 1.0]


def test_uniform_is_splitmix64() -> None:
    def reference(key: int, position: int) -> float:
        mask = (1 << 64) - 1
        z = (key + (position + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) * 2.0**-53

    keys, positions = [0, 1, 2**62 + 12345], [0, 5, 1000]
    found = uniform(torch.tensor(keys), torch.tensor(positions)).tolist()
    assert found == [reference(k, p) for k, p in zip(keys, positions, strict=True)]


def test_sampling_follows_softmax_by_chi_square() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    count, expected = 20000, logits.softmax(-1)
    rows = logits.expand(count, 4)
    keys, seen = torch.arange(count), torch.zeros(count, 4, dtype=torch.bool)
    tokens, log_probs = sample(rows, seen, keys, torch.full((count,), 3), SamplingParams())
    observed = torch.bincount(tokens, minlength=4)
    chi_square = float(((observed - count * expected) ** 2 / (count * expected)).sum())
    assert chi_square < 16.3  # the 0.1 % point at 3 degrees of freedom
    assert log_probs[0].item() == pytest.approx(math.log(expected[tokens[0]]), abs=1e-6)


def test_generate_verb_continues_a_prompt(tmp_path: Path) -> None:
    from tests.faults.processes import finish
    from tests.training.tiny import write_config

    config, log = write_config(tmp_path, "sft"), tmp_path / "log"
    assert finish(["train", str(config), "--name", "run", "-o", "logging.samples_interval=3"], log) == 0, (
        log.read_text()
    )
    run = tmp_path / "experiments" / "run"
    assert (run / "outputs" / "samples" / "step_00000006.txt").is_file()
    out = tmp_path / "out"
    assert finish(["generate", str(run), "--prompt", "hé", "--max-new-tokens", "5", "--json"], out) == 0
    assert '"prompt_text": "hé"' in out.read_text()
    assert finish(["generate", str(run), "--step", "5"], out) == 2
    assert "no checkpoint of step 5; there are: 2, 4, 6" in out.read_text()
