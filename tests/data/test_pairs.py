"""Preference data: rows of every shape, batches by hand, what is refused and what is reported."""

import numpy as np
import pytest
from tests.data.making import Rows

from ostinato.core.errors import UserError
from ostinato.data.batches import IGNORE
from ostinato.data.encoding import TrainedTokens
from ostinato.data.formats import DataOptions
from ostinato.data.graded import GradedResponses
from ostinato.data.labelled import Labelled, LabelledResponses
from ostinato.data.loader import Loader, evaluation_batches
from ostinato.data.pairs import Pair, Pairs
from ostinato.data.plan import Plan
from ostinato.data.tokenizer_kinds import byte, character

X = IGNORE


@pytest.fixture
def form(tmp_path):
    def make(kind=Pairs, tokenizer=None, sequence_length=64, **options):
        return kind(DataOptions(tokenizer or character(["abcdefgh"]), sequence_length, tmp_path, **options))

    return make


def pair(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def item(ids, trained):
    return TrainedTokens(np.array(ids), np.array(trained, dtype=bool))


A = Pair(item([1, 2, 3, 4], [0, 0, 1, 1]), item([1, 2, 5], [0, 0, 1]), 0.5)
B = Pair(item([6, 7], [0, 1]), item([6, 8, 9], [0, 1, 1]), 0.0)


def test_packed_pairs_by_hand(form):
    batch = form(sequence_length=8).collate([[A, B], [B]])
    rows = batch.tokens
    assert rows.tokens.shape == (2, 16)  # twice as wide as a document may be long
    assert rows.tokens[:, :13].tolist() == [[1, 2, 3, 4, 1, 2, 5, 6, 7, 6, 8, 9, 0], [6, 7, 6, 8, 9, *[0] * 8]]
    assert rows.labels[0, :12].tolist() == [X, 3, 4, X, X, 5, X, 7, X, 8, 9, X]
    assert rows.documents[0, :13].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, -1]
    assert rows.positions[0, :12].tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1, 2]
    assert rows.sequence.tolist() == [0, 0, 1, 2, 3, 3, 4, 5, 5]  # chosen even, rejected odd
    assert rows.tokens.flatten()[batch.ends].tolist() == [4, 5, 7, 9, 7, 9]
    assert batch.margins.tolist() == [0.5, 0.0, 0.0]
    assert batch.counts() == {"pairs": 3, "chosen_tokens": 4, "tokens": 9, "sequences": 6}


def test_split_keeps_pairs_whole(form):
    import torch

    batch = form(sequence_length=8).collate([[A, B], [B], [A]])
    batch.reference = torch.arange(12.0)
    first, second, third = batch.split(1)
    assert first.counts() == {"pairs": 2, "chosen_tokens": 3, "tokens": 6, "sequences": 4}
    assert [part.reference.tolist() for part in (first, second, third)] == [
        [*range(6)],
        [6.0, 7.0, 8.0],
        [9.0, 10.0, 11.0],
    ]
    assert third.tokens.tokens.flatten()[third.ends].tolist() == [4, 5] and third.margins.tolist() == [0.5]
    assert third.tokens.sequence.tolist() == [0, 0, 1]


def test_unpacked_pairs_are_a_row_each(form):
    made = form(sequence_length=100, packing=False)
    assert made.layout([7, 5, 9]) == [[0], [1], [2]]
    batch = made.collate([[A], [B]])
    assert batch.tokens.tokens.shape == (2, 64)
    assert batch.tokens.documents[1, :6].tolist() == [0, 0, 1, 1, 1, -1]
    assert batch.counts()["pairs"] == 2


def test_nothing_in_an_empty_batch(form):
    for packing in (True, False):
        assert not any(form(packing=packing).empty().counts().values())
        assert not any(form(LabelledResponses, packing=packing).empty().counts().values())


def test_texts_and_messages_and_whole_conversations_say_the_same(form):
    user, good, bad = ({"role": r, "content": c} for r, c in (("user", "abc"), ("assistant", "d"), ("assistant", "e")))
    shapes = [
        pair("abc", "d", "e"),
        pair([user], [good], [bad]),
        pair("abc", [user, good], [user, bad]),  # the answers repeat the prompt
        {"chosen": [user, good], "rejected": [user, bad]},
    ]
    made = form(tokenizer=byte())
    samples = made.prepare(Rows(shapes), "train")
    texts = {made.describe(samples[index]) for index in range(4)}
    assert texts == {
        "chosen: <|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n⟦d<|im_end|>⟧\n\n"
        "rejected: <|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n⟦e<|im_end|>⟧\n"
    }


def test_the_common_beginning_is_the_prompt_even_where_a_turn_of_it_is_an_answer(form):
    def said(*contents):
        return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]

    made = form(tokenizer=byte(), sequence_length=200)
    (sample,) = made.prepare(
        Rows([{"chosen": said("a", "b", "c", "d"), "rejected": said("a", "b", "c", "e")}]), "train"
    )
    assert made.describe(sample).count("⟦") == 2 and "⟦d<|im_end|>⟧" in made.describe(sample)
    equal = made.prepare(Rows([{"chosen": said("a", "b"), "rejected": said("a", "b")}]), "train")
    assert equal.receipt.remarks == {"chosen and rejected are equal": 1}
    assert "⟦b<|im_end|>⟧" in made.describe(equal[0])


def test_prompts_are_identical_and_cutting_shortens_responses_on_the_right(form):
    made = form(sequence_length=6)
    samples = made.prepare(Rows([pair("abcd", "efgh", "h", margin=2), pair("a", "b", "c")]), "train")
    assert len(samples) == 2 and samples.receipt.truncated == 1
    cut = samples[0]
    assert cut.chosen.ids[:4].tolist() == cut.rejected.ids[:4].tolist() == [0, 1, 2, 3]
    assert cut.chosen.ids.tolist() == [0, 1, 2, 3, 4, 5] and cut.rejected.ids.tolist()[:5] == [0, 1, 2, 3, 7]
    assert [samples[index].margin for index in range(2)] == [2.0, 0.0]
    assert samples.length(0) == len(cut.chosen.ids) + len(cut.rejected.ids)
    dropped = form(sequence_length=6, overlong="drop").prepare(Rows(samples._source.rows), "train")
    assert len(dropped) == 1 and dropped.receipt.dropped == {"longer than 6 tokens": 1}
    assert dropped.place(0) == "rows:2"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (pair("a", "", "b"), "rows:2: chosen is empty"),
        (pair("a", "b", " \n"), "rows:2: rejected is empty"),
        (pair("a", [{"role": "assistant", "content": ""}], "b"), "rows:2: chosen is empty"),
        (pair("a", "b", "c", margin="big"), "rows:2: margin is"),
        ({"prompt": "a", "response": "b"}, "rows:2: the keys prompt, response are no pair"),
        ({"chosen": "a", "rejected": "b"}, "rows:2: without a prompt"),
        (
            {"chosen": [{"role": "user", "content": "a"}] * 2, "rejected": [{"role": "user", "content": "b"}] * 2},
            "common",
        ),
    ],
)
def test_a_row_that_is_no_pair_is_named(form, row, says):
    with pytest.raises(UserError, match=says):
        form().prepare(Rows([pair("a", "b", "c"), row]), "train")


def test_empty_responses_are_dropped_and_counted_where_that_is_asked(form):
    rows = Rows([pair("a", "b", "c"), pair("a", "", "c"), pair("d", "e", "f")])
    samples = form(on_empty="drop").prepare(rows, "train")
    assert len(samples) == 2 and samples.receipt.dropped == {"empty response": 1}
    assert samples.receipt.places == {"empty response": ["rows:2"]}
    assert samples.place(1) == "rows:3" and samples.receipt.rows == 3


def test_responses_that_change_the_prompts_last_token_are_refused(tmp_path):
    from ostinato.data.preference_rows import check_one_prompt

    with pytest.raises(UserError, match="do not begin alike"):
        check_one_prompt([item([1, 2, 3], [0, 0, 1]), item([1, 4, 3], [0, 0, 1])])
    check_one_prompt([item([1, 2, 3], [0, 0, 1]), item([1, 2, 5, 6], [0, 0, 1, 1])])


def test_training_on_prompts_is_refused(form):
    for kind in (Pairs, LabelledResponses):
        with pytest.raises(UserError, match="train_on"):
            form(kind, train_on="all").prepare(Rows([pair("a", "b", "c")]), "train")


def test_a_held_out_part_begins_with_a_pair(form):
    rows = Rows([pair("abc"[n % 3], "de"[n % 2] * (n + 1), "f", margin=n) for n in range(10)])
    kept, held_out = form().prepare(rows, "train").split(0.3)
    assert (len(kept), len(held_out)) == (7, 3)
    assert [held_out[index].margin for index in range(3)] == [7.0, 8.0, 9.0]
    assert held_out.place(0) == "rows:8" and held_out.receipt.rows == 3
    whole = form().prepare(rows, "train").receipt
    assert kept.receipt.tokens + held_out.receipt.tokens == whole.tokens
    assert kept.receipt.trained_tokens + held_out.receipt.trained_tokens == whole.trained_tokens


# ---- labelled responses


def labelled(count):
    """Prompt and response of example n are n letters long each."""
    letters = "abcdefgh"
    return [
        {"prompt": letters[n] * (n + 1), "response": letters[n] * (n + 1), "label": n % 2 == 0} for n in range(count)
    ]


def documents_of(batch):
    """(prompt ids, trained ids) of each document of a TokenBatch, in order."""
    found = []
    for row in range(len(batch.tokens)):
        numbers = batch.documents[row]
        for number in range(int(numbers.max()) + 1):
            where = numbers == number
            ids, labels = batch.tokens[row][where].tolist(), batch.labels[row][where].tolist()
            trained = [label for label in labels if label != X]
            found.append((ids[: len(ids) - len(trained)], trained))
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("world", [1, 2])
def test_each_prompt_meets_the_next_response_however_the_step_is_cut(form, size, world):
    made = form(LabelledResponses, sequence_length=24)
    samples = made.prepare(Rows(labelled(7)), "train")
    plan = Plan({"train": 7}, batch_size=5, seed=1)
    order = [one.index for one in plan.samples(2)]
    found = []
    for rank in range(world):
        step = Loader(plan, {"train": samples}, made, micro_batch_size=size, rank=rank, world_size=world).assemble(2)
        for batch in step.micro_batches:
            found += [
                (own[0][0], (prompt[0], response[0]))
                for own, (prompt, response) in zip(
                    documents_of(batch.tokens), documents_of(batch.mismatched), strict=True
                )
            ]
            assert batch.desirable.tolist() == [own[0][0] % 2 == 0 for own in documents_of(batch.tokens)]
    expected = {one: (one, order[(place + 1) % 5]) for place, one in enumerate(order)}
    assert dict(found) == expected and len(found) == 5


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_in_evaluation_all_examples_are_one_step(form, rows):
    made = form(LabelledResponses, sequence_length=24)
    samples = made.prepare(Rows(labelled(7)), "validation")
    found = [
        (prompt[0], response[0])
        for batch in evaluation_batches(samples, made, rows)
        for prompt, response in documents_of(batch.mismatched)
    ]
    assert sorted(found) == [(n, (n + 1) % 7) for n in range(7)]


def test_a_mismatched_response_is_cut_to_what_fits(form):
    made = form(LabelledResponses, sequence_length=5)
    first = Labelled(item([1, 2, 3, 4], [0, 0, 0, 1]), True)
    second = Labelled(item([5, 6, 7, 8], [0, 1, 0, 1]), False)
    met = made.item_at(0, 2, [first, second].__getitem__)
    assert met.mismatched.ids.tolist() == [1, 2, 3, 6, 7] and met.mismatched.trained.tolist() == [0, 0, 0, 1, 0]
    met = made.item_at(1, 2, [first, second].__getitem__)
    assert met.mismatched.ids.tolist() == [5, 4] and met.mismatched.trained.tolist() == [0, 1]


def test_labelled_batches_split_by_rows(form):
    import torch

    made = form(LabelledResponses, sequence_length=8, packing=False)
    items = [
        Labelled(A.chosen, True, B.rejected),
        Labelled(B.rejected, False, A.rejected),
        Labelled(B.chosen, True, A.chosen),
    ]
    batch = made.collate([[one] for one in items])
    batch.reference = torch.arange(5.0)
    first, second = batch.split(2)
    assert first.desirable.tolist() == [True, False] and second.desirable.tolist() == [True]
    assert second.reference.tolist() == [4.0] and second.mismatched.tokens[0, :4].tolist() == [1, 2, 3, 4]
    assert first.counts() == {"tokens": 4, "sequences": 2}


def test_labels_are_true_or_false(form):
    made = form(LabelledResponses)
    rows = [{"prompt": "a", "completion": "b", "label": label} for label in (True, 0, 1, False)]
    samples = made.prepare(Rows(rows), "train")
    assert [samples[n].desirable for n in range(4)] == [True, False, True, False]
    assert made.describe(samples[0]).startswith("desirable: a⟦b")
    for row, says in (
        ({"prompt": "a", "response": "b", "label": "good"}, "label is"),
        ({"prompt": "a"}, "no labelled"),
    ):
        with pytest.raises(UserError, match=f"rows:1: .*{says}"):
            made.prepare(Rows([row]), "train")
    with pytest.raises(UserError, match="rows:1: response is empty"):
        made.prepare(Rows([{"prompt": "a", "response": "", "label": True}]), "train")


# ---- graded responses


@pytest.fixture
def graded(tmp_path, monkeypatch):
    import json

    monkeypatch.setenv("OSTINATO_CACHE", str(tmp_path / "cache"))
    rows = [
        {
            "q": "one",
            "x": {"text": "x1", "ok": True},
            "y": {"text": "y1", "ok": False},
            "z": {"text": "z1", "ok": True},
        },
        {"q": "two", "x": {"text": "x2", "ok": 3}, "y": {"text": "y2", "ok": 1.5}, "z": {"text": "z2", "ok": -1}},
        {"q": "none", "x": {"text": "x3", "ok": 1}, "y": {"text": "y3", "ok": 1}, "z": {"text": "z3", "ok": 1}},
    ]
    path = tmp_path / "graded.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**options):
        keys = {"prompt": "q", "responses": ["x", "y", "z"], "response": "text", "grade": "ok"}
        return GradedResponses(0, path=path, **(keys | options))

    return make


def test_graded_responses_as_pairs(graded):
    every = graded(margins=True)
    found = [(row["chosen"], row["rejected"], row["margin"]) for row in map(every.__getitem__, range(len(every)))]
    assert found == [("x1", "y1", 1.0), ("z1", "y1", 1.0), ("x2", "y2", 1.5), ("x2", "z2", 4.0), ("y2", "z2", 2.5)]
    assert every[0]["prompt"] == "one" and every.place(1).endswith("graded.jsonl:1 (z over y)")
    best = graded(pairs="best_worst")
    assert [best[n] for n in range(len(best))] == [pair("one", "x1", "y1"), pair("two", "x2", "z2")]
    assert len(graded(rows=[1, 3])) == 3 and graded(rows=[1, 3])[0]["chosen"] == "x2"
    fingerprints = {one.fingerprint for one in (every, best, graded(), graded(rows=[1, 3]), graded(make="labelled"))}
    assert len(fingerprints) == 5


def test_graded_responses_as_labels(graded):
    rows = graded(make="labelled", threshold=1.0)
    found = [rows[n] for n in range(len(rows))]
    assert [row["response"] for row in found[:4]] == ["x1", "y1", "z1", "x2"]
    assert [row["label"] for row in found] == [False, False, False, True, True, False, False, False, False]


def test_a_list_of_responses_is_read_too(graded, tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"prompt": "p", "all": [{"response": "a", "grade": 0}, {"response": "b", "grade": 2}]}\n')
    rows = GradedResponses(0, path=path, responses=["all"])
    assert [rows[0]] == [pair("p", "b", "a")] and rows.place(0).endswith("list.jsonl:1 (all[1] over all[0])")


def test_what_is_not_graded_is_named(graded):
    with pytest.raises(UserError, match=r"graded.jsonl:1: no key 'w'; it has q, x, y, z"):
        graded(responses=["x", "w"])
    with pytest.raises(UserError, match=r"graded.jsonl:1: x is no \{text: ..., score: number or bool\}"):
        graded(grade="score")
    with pytest.raises(UserError, match="no pairs"):
        graded(rows=[2, 3])
    with pytest.raises(ValueError, match="within the 3 rows"):
        graded(rows=[2, 4])
