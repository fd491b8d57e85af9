"""Sampling from a tiny Llama: our engine beside transformers' `generate` on the same weights, at several batch sizes.

python -m benchmarks.generation [--batches 1 16 64] [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import THREADS, record, spread, take_turns
from ostinato.core.config import Component
from ostinato.core.inputs import ModelInputs
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams
from ostinato.training.initialise import build_model

SHAPE = {"width": 256, "layers": 4, "heads": 4, "kv_heads": 2, "mlp_width": 704, "init_std": 0.1}
VOCABULARY, CONTEXT, PROMPT, NEW_TOKENS = 4096, 512, 32, 96
BATCHES = (1, 16, 64)


class Endless:
    """A tokenizer without an end, so that all responses have one length."""

    bos_id = eos_id = None
    eos_ids: tuple[int, ...] = ()

    def decode(self, ids: list[int]) -> str:
        return ""


def transformers_model(model: Any) -> Any:
    """LlamaForCausalLM from our description and state dict, unchanged."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_dict({**model.hf_config(), "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0})
    peer = LlamaForCausalLM(config)
    peer.load_state_dict(model.state_dict())
    return peer.eval()


def contenders(model: Any, peer: Any, batch: int) -> dict[str, Callable[[], float]]:
    """By name, a call that samples `batch` responses and returns tokens per second."""
    prompts = torch.randint(1, VOCABULARY, (batch, PROMPT), generator=torch.Generator().manual_seed(batch))
    texts = prompts.tolist()

    def timed(generate: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            generate()
            return batch * NEW_TOKENS / (time.perf_counter() - begin)

        return run

    def ours(temperature: float, exact: bool) -> Callable[[], Any]:
        generator = Generator(Endless(), exact=exact)  # type: ignore[arg-type]
        params = SamplingParams(max_new_tokens=NEW_TOKENS, temperature=temperature)
        return lambda: generator.generate(model, texts, params)

    def theirs(**options: Any) -> Callable[[], Any]:
        common = {"attention_mask": torch.ones_like(prompts), "max_new_tokens": NEW_TOKENS}
        return lambda: peer.generate(prompts, **common, **options)

    return {
        "ours": timed(ours(1.0, True)),
        "ours, not exact": timed(ours(1.0, False)),
        "transformers": timed(theirs(do_sample=True, top_k=0)),
        "ours, greedy": timed(ours(0.0, True)),
        "transformers, greedy": timed(theirs(do_sample=False)),
    }


def same_tokens(model: Any, peer: Any) -> None:
    """Both must say the same, or their times mean nothing."""
    prompts = torch.randint(1, VOCABULARY, (4, PROMPT), generator=torch.Generator().manual_seed(0))
    params = SamplingParams(max_new_tokens=24, temperature=0.0)
    ours = [s.response_ids for s in Generator(Endless()).generate(model, prompts.tolist(), params)]  # type: ignore[arg-type]
    theirs = peer.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=24, do_sample=False)
    assert ours == theirs[:, PROMPT:].tolist(), "the greedy tokens of the two differ"


def measure(batches: tuple[int, ...], rounds: int) -> list[str]:
    """A line for each contender at each batch size, then the ratios, pair by pair."""
    torch.set_num_threads(THREADS)
    node = Component("transformer", SHAPE)
    model = build_model(node, ModelInputs(VOCABULARY, CONTEXT), 0, torch.device("cpu")).eval()
    peer = transformers_model(model)
    same_tokens(model, peer)
    lines = []
    for batch in batches:
        runs = contenders(model, peer, batch)
        for run in runs.values():
            run()  # kernels are compiled, caches warm
        kept = take_turns(runs, rounds)
        lines += [f"- batch {batch}, {name}: {spread(values)} tokens/s" for name, values in kept.items()]
        for kind in ("", ", greedy"):
            ratios = [a / b for a, b in zip(kept[f"ours{kind}"], kept[f"transformers{kind}"], strict=True)]
            lines.append(f"- batch {batch}{kind}, ours / transformers (aim: at least 2): {spread(ratios)}")
    return lines


def main() -> None:
    """A Llama of width 256, 4 layers, 4,096 tokens in the vocabulary; prompts of 32 tokens, 96 new ones, fp32."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--print-only", action="store_true", help="do not append to docs/log.md")
    arguments = parser.parse_args()
    lines = measure(tuple(arguments.batches), arguments.rounds)
    record("sampling, transformers' generate", [main.__doc__ or "", *lines], print_only=arguments.print_only)


if __name__ == "__main__":
    main()
