"""The plan against its rule read literally (plain Python, one position at a time), and the properties it promises."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from ostinato.core.errors import UserError
from ostinato.core.seeding import key
from ostinato.data.mixture import shares
from ostinato.data.permutation import permute
from ostinato.data.plan import Plan, Sample, differences

MASK_64 = (1 << 64) - 1


def splitmix64(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    return z ^ (z >> 31)


def plain_permute(i: int, n: int, key: int, rounds: int = 8) -> int:
    half = max(1, -(-(n - 1).bit_length() // 2))
    while True:
        left, right = i >> half, i & (2**half - 1)
        for number in range(rounds):
            left, right = right, left ^ (splitmix64((right << 8 | number) ^ key) & (2**half - 1))
        i = left << half | right
        if i < n:
            return i


def plain_samples(lengths, counts, block, seed, positions, shuffle=True):
    """Section 1.1 of the specification, position by position, turns counted from the first."""
    names, turns, found = sorted(lengths), Counter(), []
    for p in range(positions):
        k, j = divmod(p, block)
        listed = [name for name in names for _ in range(counts[name])]
        source = listed[plain_permute(j, block, key(seed, "mixture", k))]
        e, r = divmod(turns[source], lengths[source])
        order = key(seed, "order", source, e)
        found.append(Sample(source, e, plain_permute(r, lengths[source], order) if shuffle else r))
        turns[source] += 1
    return found


def test_splitmix64_is_the_published_one():
    # First outputs for seed 1234567: rosettacode.org, "Pseudo-random numbers/Splitmix64".
    state, outputs = 1234567, []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state = (state + 0x9E3779B97F4A7C15) & MASK_64
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4097])
def test_permute_equals_the_plain_loop_and_is_a_permutation(n):
    for seed in (0, 1, key(3, "order", "a", 0)):
        got = permute(np.arange(n), n, seed).tolist()
        assert got == [plain_permute(i, n, seed) for i in range(n)]
        assert sorted(got) == list(range(n))


def test_permute_of_large_n():
    indices = [0, 1, 123_456_789, 10**17]
    assert permute(np.array(indices), 10**18, 42).tolist() == [plain_permute(i, 10**18, 42) for i in indices]


def test_golden_orders_never_change():
    assert permute(np.arange(10), 10, 12345).tolist() == [6, 8, 5, 1, 0, 4, 2, 7, 3, 9]
    plan = Plan({"a": 7, "b": 100}, weights={"a": 1, "b": 3}, batch_size=4, seed=42, mixture_block=8)
    assert plan.samples(1) == GOLDEN_STEP_1
    assert plan.samples(1000) == GOLDEN_STEP_1000


def unevenness(orders: np.ndarray) -> float:
    """Chi-square of (keys, n) orders: does each thing go to each place equally often? Over its quantile 1 - 1e-6."""
    keys, n = orders.shape
    places = np.array([np.bincount(orders[:, thing], minlength=n) for thing in range(n)])
    chi_square = ((places - keys / n) ** 2 / (keys / n)).sum() * (n - 1) / n
    freedom = (n - 1) ** 2
    quantile = freedom * (1 - 2 / (9 * freedom) + 4.75 * (2 / (9 * freedom)) ** 0.5) ** 3  # Wilson and Hilferty 1931
    return chi_square / quantile


@pytest.mark.parametrize("n", [3, 5, 6, 9])
def test_permute_is_uniform_for_small_n(n):
    keys = [key("uniform", trial) for trial in range(5000)]
    assert unevenness(np.array([permute(np.arange(n), n, one) for one in keys])) < 1
    if n not in (5, 6):
        return
    four_rounds = [[plain_permute(i, n, one, rounds=4) for i in range(n)] for one in keys]
    assert unevenness(np.array(four_rounds)) > 1  # what the measure is there to see


def test_plan_equals_the_rule_read_literally():
    lengths, weights = {"b": 10, "a": 3, "c": 50}, {"a": 1, "b": 2, "c": 5}
    plan = Plan(lengths, weights=weights, batch_size=5, seed=9, mixture_block=16)
    counts = {"a": 2, "b": 4, "c": 10}  # 16/8 * weight
    expected = plain_samples(lengths, counts, 16, 9, 5 * 400)
    assert [one for step in range(1, 401) for one in plan.samples(step)] == expected
    unshuffled = Plan(lengths, weights=weights, batch_size=5, seed=9, mixture_block=16, shuffle=False)
    assert unshuffled.range(0, 200) == plain_samples(lengths, counts, 16, 9, 200, shuffle=False)


def test_one_source_equals_the_rule():
    plan = Plan({"train": 30}, batch_size=7, seed=1)
    expected = plain_samples({"train": 30}, {"train": 1024}, 1024, 1, 2100)
    assert [one for step in range(1, 301) for one in plan.samples(step)] == expected


def test_steps_in_any_order_and_ranges_agree():
    make = lambda: Plan({"a": 11, "b": 29}, weights={"a": 1, "b": 2}, batch_size=6, seed=3, mixture_block=9)  # noqa: E731
    plan = make()
    forward = [plan.samples(step) for step in range(1, 1001)]
    for step in (1000, 1, 517, 171, 172):
        assert make().samples(step) == forward[step - 1]
    assert make().range(100, 5000) == [one for step in forward for one in step][100:5100]


def test_every_block_holds_exact_counts_and_every_epoch_each_sample_once():
    lengths = {"a": 13, "b": 40}
    plan = Plan(lengths, weights={"a": 0.25, "b": 0.75}, batch_size=8, seed=0, mixture_block=32)
    drawn = plan.range(0, 32 * 60)
    for block in range(60):
        assert Counter(one.source for one in drawn[block * 32 : block * 32 + 32]) == {"a": 8, "b": 24}
    for name, length in lengths.items():
        mine = [one for one in drawn if one.source == name]
        for epoch in range(len(mine) // length):
            once = mine[epoch * length : (epoch + 1) * length]
            assert {one.epoch for one in once} == {epoch}
            assert sorted(one.index for one in once) == list(range(length))
    epochs = [[one.index for one in drawn if one.source == "a" and one.epoch == epoch] for epoch in (0, 1)]
    assert epochs[0] != epochs[1]


def test_weight_zero_changes_nothing():
    two = Plan({"a": 10, "b": 20}, weights={"a": 1, "b": 1}, batch_size=4, seed=5, mixture_block=10)
    three = Plan({"a": 10, "b": 20, "aa": 7}, weights={"a": 1, "b": 1, "aa": 0}, batch_size=4, seed=5, mixture_block=10)
    assert two.range(0, 500) == three.range(0, 500)
    contents = {"a": "1", "b": "2", "aa": "3"}
    assert two.fingerprint(contents) == three.fingerprint(contents)


def test_adding_a_source_reorders_no_other():
    two = Plan({"a": 10, "b": 20}, batch_size=4, seed=5, mixture_block=10)
    three = Plan({"a": 10, "b": 20, "c": 30}, batch_size=4, seed=5, mixture_block=12)
    for name in "ab":
        before = [one for one in two.range(0, 600) if one.source == name][:150]
        assert [one for one in three.range(0, 600) if one.source == name][:150] == before


def test_shares_are_the_largest_remainders_with_ties_by_name():
    assert shares({"a": 0.5, "b": 0.3, "c": 0.2}, 7) == {"a": 4, "b": 2, "c": 1}  # 3.5, 2.1, 1.4
    assert shares({"c": 1, "b": 1, "a": 1}, 10) == {"c": 3, "b": 3, "a": 4}
    assert shares({"a": 0.1, "b": 0.2}, 3) == {"a": 1, "b": 2}


def test_a_share_that_rounds_to_nothing_names_the_block_it_needs():
    with pytest.raises(UserError, match=r"source rare.*Set data.mixture_block to 1000 or more"):
        shares({"rare": 0.001, "rest": 0.999}, 64)
    assert shares({"rare": 0.001, "rest": 0.999}, 1000) == {"rare": 1, "rest": 999}
    for weights in ({"a": 0.0}, {"a": -1.0, "b": 2.0}):
        with pytest.raises(UserError, match="must not be negative"):
            shares(weights, 8)


def test_stages_change_weights_at_the_next_block_and_turns_count_on():
    stages = [{"from_step": 6, "weights": {"a": 3}}]  # first position 20: the block at 20..29 is the first to change
    plan = Plan({"a": 50, "b": 50}, batch_size=4, seed=2, mixture_block=10, stages=stages)
    drawn = plan.range(0, 200)
    assert [sum(one.source == "a" for one in drawn[k : k + 10]) for k in range(0, 200, 10)] == [5, 5] + [8] * 18
    turns = [one for one in drawn if one.source == "a"]
    assert [one.epoch for one in turns] == [n // 50 for n in range(len(turns))]
    assert len({(one.epoch, one.index) for one in turns}) == len(turns)
    unstaged = Plan({"a": 50, "b": 50}, batch_size=4, seed=2, mixture_block=10)
    assert drawn[:20] == unstaged.range(0, 20)
    later = Plan(
        {"a": 50, "b": 50}, batch_size=4, seed=2, mixture_block=10, stages=[{"from_step": 7, "weights": {"a": 3}}]
    )
    assert later.range(0, 30) == unstaged.range(0, 30)  # first position 24: next boundary 30
    with pytest.raises(UserError, match="no source is called x. Known: a, b"):
        Plan({"a": 5, "b": 5}, batch_size=1, seed=0, stages=[{"from_step": 2, "weights": {"x": 1}}])


def test_skips_read_on_as_if_steps_had_passed():
    plan = Plan({"a": 100}, batch_size=4, seed=2)
    skipping = plan.skipping([(5, 3), (10, 1)])
    assert [skipping.samples(step) for step in (4, 5, 9, 10)] == [plan.samples(step) for step in (4, 8, 12, 14)]
    assert skipping.fingerprint({"a": "x"}) != plan.fingerprint({"a": "x"})


def test_an_empty_source_is_refused_only_where_it_is_drawn():
    with pytest.raises(UserError, match="source b holds no sample"):
        Plan({"a": 5, "b": 0}, batch_size=1, seed=0)
    Plan({"a": 5, "b": 0}, weights={"a": 1, "b": 0}, batch_size=1, seed=0)


def test_differences_say_what_changed():
    before = Plan({"wiki": 81234, "a": 3}, batch_size=2, seed=0).identity({"wiki": "x", "a": "y"}, packing=True)
    now = Plan({"wiki": 81240, "a": 3}, batch_size=2, seed=1).identity({"wiki": "x", "a": "z"}, packing=True)
    lines = differences(before, now)
    assert "source wiki: 81,234 rows when the run began, 81,240 now" in lines
    assert "seed: 0 when the run began, 1 now" in lines
    assert len(lines) == 3 and lines[0].startswith("source a: other content")
    assert differences(before, before) == []


def test_the_plan_needs_no_torch():
    code = (
        "import sys, ostinato.data.plan, ostinato.data.build, ostinato.data.windows; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


GOLDEN_STEP_1 = [Sample("b", 0, 34), Sample("b", 0, 72), Sample("b", 0, 22), Sample("a", 0, 6)]
GOLDEN_STEP_1000 = [Sample("b", 29, 96), Sample("b", 29, 73), Sample("a", 142, 6), Sample("b", 29, 29)]
