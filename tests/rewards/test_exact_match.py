"""Equality with a gold, word for word."""

from ostinato.rewards.exact_match import ExactMatch
from tests.rewards.responses import CONTEXT, answers, response


def test_both_sides_are_stripped_and_nothing_else():
    exact = ExactMatch(CONTEXT)
    assert exact(answers(" 42\n", "42", "\t42 ", 42, "4 2", "42.")) == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert exact(answers("Paris", "paris", "Paris.")) == [0.0, 0.0]


def test_any_gold_of_a_list_will_do_and_none_is_unscorable():
    exact = ExactMatch(CONTEXT)
    assert exact(answers("b", ["a", "b"], ["a"], [None, "b"])) == [1.0, 0.0, 1.0]
    assert exact(answers("b", None, [], [None])) == [None, None, None]
    assert exact([response("b"), response("b", {"gold": "b"})]) == [None, None]
    assert ExactMatch(CONTEXT, answer="gold")([response("b", {"gold": "b"})]) == [1.0]


def test_an_empty_gold_is_a_gold():
    assert ExactMatch(CONTEXT)([*answers(" ", ""), *answers("x", "")]) == [1.0, 0.0]


def test_case_and_punctuation_can_be_ignored():
    case = ExactMatch(CONTEXT, ignore_case=True)
    assert case(answers("STRASSE", "straße", "strasse!")) == [1.0, 0.0]
    punctuation = ExactMatch(CONTEXT, ignore_punctuation=True)
    assert punctuation(answers("Don’t, «stop»!", "Dont stop", "dont stop", "Don't  stop.")) == [1.0, 0.0, 1.0]
    assert ExactMatch(CONTEXT, ignore_case=True, ignore_punctuation=True)(answers("(A)", "a.")) == [1.0]
