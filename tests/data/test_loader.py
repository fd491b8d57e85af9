"""The loader: the same steps for any ranks, threads, prefetch and resume; errors at their step; exact evaluation."""

import random
import threading
import time
from itertools import islice

import numpy as np
import pytest
import torch

from ostinato.core.errors import UserError
from ostinato.data.loader import Loader, evaluation_batches
from ostinato.data.plan import Plan

TEXTS = ["some words of a text", "more", "and then a rather longer document, with more of everything in it", "end"] * 5
STEPS = 40


@pytest.fixture
def parts(windows):
    """(plan, samples, format) of a mixture of two sources, 10 samples a step."""
    form, one = windows(TEXTS, 16, label="one")
    _, two = windows(TEXTS[2:3], 16, label="two")
    plan = Plan(
        {"one": len(one), "two": len(two)}, weights={"one": 2, "two": 1}, batch_size=10, seed=1, mixture_block=12
    )
    return plan, {"one": one, "two": two}, form


def flat(batch):
    return [batch.tokens.tolist(), batch.labels.tolist(), batch.positions.tolist()]


def read(loader, first=1, count=STEPS):
    found = [
        (one.step, one.data, one.indices, list(map(flat, one.micro_batches)))
        for one in islice(loader.steps(first), count)
    ]
    loader.close()
    return found


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 2), (1, 1), (2, 2), (4, 7), (3, 0)])
def test_threads_and_prefetch_change_nothing(parts, workers, prefetch):
    expected = read(Loader(*parts, micro_batch_size=3))
    assert read(Loader(*parts, micro_batch_size=3, workers=workers, prefetch=prefetch)) == expected
    assert [step for step, *_ in expected] == list(range(1, STEPS + 1))


def test_a_resume_at_any_step_goes_on_the_same(parts):
    expected = read(Loader(*parts, micro_batch_size=4))
    for first in range(1, STEPS + 1):
        assert read(Loader(*parts, micro_batch_size=4), first, STEPS + 1 - first) == expected[first - 1 :]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_ranks_share_the_same_micro_batches(parts, world):
    whole = list(islice(Loader(*parts, micro_batch_size=3).steps(1), 5))
    ranks = [
        list(islice(Loader(*parts, micro_batch_size=3, rank=r, world_size=world).steps(1), 5)) for r in range(world)
    ]
    for number, one in enumerate(whole):
        shares = [steps[number] for steps in ranks]
        assert {share.data for share in shares} == {one.data}
        assert {share.count for share in shares} == {4}  # 10 rows in threes
        assert len({len(share.micro_batches) for share in shares}) == 1
        by_number = {m: batch for share in shares for m, batch in zip(share.indices, share.micro_batches, strict=True)}
        assert sorted(by_number) == list(range(-(-4 // world) * world))
        assert [flat(by_number[m]) for m in range(4)] == [flat(batch) for batch in one.micro_batches]
        assert all(by_number[m].counts() == {"tokens": 0, "sequences": 0} for m in range(4, len(by_number)))


def test_without_a_micro_batch_size_the_share_is_cut_by_accumulation(parts):
    sizes = lambda **options: [len(b) for b in next(Loader(*parts, **options).steps(1)).micro_batches]  # noqa: E731
    assert sizes() == [10]
    assert sizes(accumulation=3) == [4, 4, 2]
    assert sizes(world_size=2) == [5]
    assert sizes(world_size=2, accumulation=2, rank=1) == [3, 1]


def test_what_is_read_is_what_the_plan_says(parts):
    plan, samples, form = parts
    for one in islice(Loader(*parts).steps(1), 20):
        expected = form.collate([[samples[s.source][s.index]] for s in plan.samples(one.step)])
        assert flat(one.micro_batches[0]) == flat(expected)


def test_the_hash_tells_order_and_content_apart(parts, windows):
    plan, samples, form = parts
    data = next(Loader(*parts).steps(1)).data
    assert len(data) == 16 and int(data, 16) >= 0
    other_seed = Plan(plan.lengths, weights=plan.weights, batch_size=10, seed=2, mixture_block=12)
    _, changed = windows([*TEXTS[:-1], "End"], 16, label="one")
    assert len(changed) == len(samples["one"])
    others = [(other_seed, samples, form), (plan, {**samples, "one": changed}, form)]
    assert len({data, *(next(Loader(*other).steps(1)).data for other in others)}) == 3


class Broken:
    """Samples of which one cannot be read."""

    def __init__(self, samples, index):
        self.samples, self.broken, self.label, self.fingerprint = samples, index, "wiki", "x"

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        if index == self.broken:
            raise OSError("read error")
        return self.samples[index]

    def length(self, index):
        return self.samples.length(index)

    def place(self, index):
        return f"wiki.jsonl:{index + 1}"


@pytest.mark.parametrize("workers", [0, 3])
def test_an_error_surfaces_at_its_step_with_its_place(windows, workers):
    form, samples = windows(TEXTS, 16)
    plan = Plan({"wiki": len(samples)}, batch_size=2, seed=0)
    bad, broken = 6, plan.samples(6)[1].index  # of the first epoch: in no step before
    loader = Loader(plan, {"wiki": Broken(samples, broken)}, form, workers=workers, prefetch=4)
    steps = loader.steps(1)
    assert [next(steps).step for _ in range(bad - 1)] == list(range(1, bad))
    message = rf"step 6: sample {broken} of source wiki \(wiki.jsonl:{broken + 1}\) cannot be read: OSError: read error"
    with pytest.raises(UserError, match=message):
        next(steps)
    loader.close()


def test_close_stops_the_threads_promptly(parts):
    before = set(threading.enumerate())
    loader = Loader(*parts, workers=3, prefetch=8)
    steps = loader.steps(1)
    next(steps)
    own = set(threading.enumerate()) - before
    assert own
    started = time.perf_counter()
    loader.close()
    steps.close()
    while any(thread.is_alive() for thread in own):
        assert time.perf_counter() - started < 30
        time.sleep(0.01)


def test_global_generators_are_neither_used_nor_heard(parts):
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    expected = read(Loader(*parts, workers=2))
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    assert read(Loader(*parts, workers=2)) == expected


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_is_every_sample_once_for_any_cut(parts, rows, world):
    _, samples, form = parts
    ranks = [list(evaluation_batches(samples["one"], form, rows, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    in_order = [batch for turn in zip(*ranks, strict=True) for batch in turn]
    labels = [one for batch in in_order for one in batch.labels.flatten()[batch.trained].tolist()]
    assert labels == [token for text in TEXTS for token in [*text.encode(), 256][1:]]


def test_a_small_step_costs_little(windows):
    """nanoGPT's CPU line, 12 rows of 64: well under a millisecond of the calling thread (0.1 measured)."""
    form, samples = windows(["x" * 100_000], 64)
    plan = Plan({"train": len(samples)}, batch_size=12, seed=0)
    loader = Loader(plan, {"train": samples}, form)
    times = []
    for step in range(1, 201):
        started = time.perf_counter()
        loader.assemble(step)
        times.append(time.perf_counter() - started)
    assert sorted(times)[100] < 1e-3
