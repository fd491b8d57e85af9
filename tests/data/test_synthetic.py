"""Made-up tasks: right, all different, drawn from the seed, and split without overlap."""

from itertools import combinations_with_replacement

import pytest

from ostinato.data.addition import Addition
from ostinato.data.copying import Copying
from ostinato.data.countdown import Countdown
from ostinato.data.sorting import Sorting

TASKS = {
    "addition": lambda seed=0, **options: Addition(seed, digits=1, **options),
    "copying": lambda seed=0, **options: Copying(seed, length=2, letters=10, **options),
    "sorting": lambda seed=0, **options: Sorting(seed, length=2, digits=1, **options),
    "countdown": lambda seed=0, **options: Countdown(seed, numbers=3, largest=7, **options),  # C(9, 3) = 84 choices
}
SPACES = {"addition": 100, "copying": 100, "sorting": 100, "countdown": 84}
EVERY = pytest.mark.parametrize("name", TASKS)


def rows(task, **options):
    source = task(**options)
    return [source[index] for index in range(len(source))]


def problem(row):
    """What makes two problems the same."""
    return str(sorted(row["numbers"])) if "numbers" in row else row["prompt"]


@EVERY
def test_the_whole_space_is_drawn_once(name):
    every = rows(TASKS[name], size=SPACES[name])
    assert len({problem(row) for row in every}) == SPACES[name]
    with pytest.raises(ValueError, match=f"size: there are {SPACES[name]} different .*, not 1 \\+ {SPACES[name]}"):
        TASKS[name](size=SPACES[name], first=1)
    source = TASKS[name](size=3)
    assert (source.kind, source.place(2)[-2:]) == ("generated", " 2")
    with pytest.raises(IndexError):
        source[3]


@EVERY
def test_training_and_held_out_data_share_no_problem(name):
    training, held_out = rows(TASKS[name], size=60), rows(TASKS[name], size=24, first=60)
    assert training + held_out == rows(TASKS[name], size=84)
    assert not {problem(row) for row in training} & {problem(row) for row in held_out}


@EVERY
def test_rows_are_a_function_of_seed_and_index(name):
    first, again, other = (TASKS[name](seed, size=20) for seed in (0, 0, 1))
    assert [first[index] for index in reversed(range(20))] == [again[index] for index in reversed(range(20))]
    assert {index for index in range(20) if first[index] != other[index]}
    assert first.fingerprint == again.fingerprint
    fingerprints = {
        source.fingerprint for source in (first, other, TASKS[name](size=21), TASKS[name](size=20, first=1))
    }
    assert len(fingerprints) == 4


@EVERY
def test_the_response_is_the_gold_answer(name):
    assert all(row["response"] == row["answer"] for row in rows(TASKS[name], size=50))


def test_these_rows_never_change():
    assert Addition(0)[0]["prompt"] == "485+914="
    assert Copying(0)[0]["prompt"] == "copy lofgm="
    assert Copying(0, length=16)[0]["prompt"] == "copy zcjobgthppmptfyb="
    assert Sorting(0)[0] == {"prompt": "sort 97 32 66 25=", "response": "25 32 66 97", "answer": "25 32 66 97"}
    expected = {"response": "(47+32)+15", "answer": "(47+32)+15", "numbers": [15, 47, 32], "target": 94}
    assert Countdown(0)[0] == {"prompt": "make 94 from 15 47 32=", **expected}


def test_lists_are_sorted_as_numbers():
    for row in rows(lambda **options: Sorting(0, length=5, digits=3, **options), size=50):
        numbers = row["prompt"].removeprefix("sort ").removesuffix("=").split()
        assert row["answer"].split() == sorted(numbers, key=int) and len(numbers) == 5
        assert all(0 <= int(number) < 1000 for number in numbers)


def test_words_longer_than_a_number_can_name_are_drawn_to_their_end():
    source = Copying(0, length=40, size=1000)
    words = [source[index]["answer"] for index in range(1000)]
    assert {len(word) for word in words} == {40} and len({word[:13] for word in words}) == 1000
    for place in (0, 12, 13, 39):
        assert len({word[place] for word in words}) == 26  # 1000 draws miss one with a chance of 26 e^-39


def test_countdown_reaches_its_target_with_all_numbers():
    seen = set()
    for row in rows(TASKS["countdown"], size=84):
        used = sorted(int(word) for word in row["answer"].translate(str.maketrans("+-*/()", "      ")).split())
        assert used == sorted(row["numbers"])
        assert eval(row["answer"]) == row["target"] > 0  # made here, of digits and signs
        assert row["prompt"] == f"make {row['target']} from {' '.join(map(str, row['numbers']))}="
        seen.add(tuple(used))
    assert seen == set(combinations_with_replacement(range(1, 8), 3))  # every choice, once


def test_countdown_uses_every_operation_and_order():
    every = rows(lambda **options: Countdown(0, numbers=4, largest=20, **options), size=300)
    for sign in "+-*/":
        assert sum(sign in row["answer"] for row in every) > 30
    assert sum(row["numbers"] == sorted(row["numbers"]) for row in every) < 60  # 1 of 24, and repeated numbers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Addition(0, digits=10), "digits: 10 is not between 1 and 9"),
        (lambda: Copying(0, length=0), "length: 0 is not at least 1"),
        (lambda: Copying(0, letters=1), "letters: 1 is not between 2 and 26"),
        (lambda: Sorting(0, digits=0), "digits: 0 is not between 1 and 9"),
        (lambda: Countdown(0, numbers=1), "numbers: 1 is not at least 2"),
        (lambda: Countdown(0, numbers=30, largest=999), "can be chosen in too many ways"),
    ],
)
def test_what_a_task_cannot_be_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
