"""Final answers: where they stand, what they are worth, and real solutions of real problems."""

import json
import os
import time
from fractions import Fraction

import pytest

from ostinato.rewards.math_answer import Answer, MathAnswer, marked_answer, read_answer, without_layout
from ostinato.rewards.symbolic import Symbolic
from ostinato.rewards.written_numbers import last_free_number, last_number, whole_number
from tests.rewards.responses import CONTEXT, DATA, answers, response

WHOLE = {
    "18": Fraction(18),
    "+7": Fraction(7),
    "-18.50": Fraction(-37, 2),
    "\u22123": Fraction(-3),  # the minus sign of typography
    "- 5": Fraction(-5),
    ".5": Fraction(1, 2),
    "1,234,567.5": Fraction(2469135, 2),
    "1{,}000": Fraction(1000),
    r"1,\!000": Fraction(1000),
    "-$5": Fraction(-5),
    "$-5": Fraction(-5),
    r"\$1,000": Fraction(1000),
    "£3": Fraction(3),
    "5€": Fraction(5),
    "$18$": Fraction(18),
    "3/4": Fraction(3, 4),
    "-3/4": Fraction(-3, 4),
    r"\frac{3}{4}": Fraction(3, 4),
    r"\dfrac34": Fraction(3, 4),
    r"-\tfrac{1.5}{2}": Fraction(-3, 4),
    r"\frac{-1}{2}": Fraction(-1, 2),
    r"2\frac{1}{2}": Fraction(5, 2),
    "-1 1/2": Fraction(-3, 2),
    "1e5": Fraction(100000),
    "1.5E-3": Fraction(3, 2000),
    "10^3": Fraction(1000),
    "2^{10}": Fraction(1024),
    "2^{-3}": Fraction(1, 8),
    r"3 \times 10^{5}": Fraction(300000),
    r"2.5\cdot10^{-2}": Fraction(1, 40),
    "50%": Fraction(1, 2),
    r"12.5\%": Fraction(1, 8),
    "50 percent": Fraction(1, 2),
    "18 dollars per day.": Fraction(18),
    r"18\text{ cm}": Fraction(18),
    "18 cm^2": Fraction(18),
    r"45^\circ": Fraction(45),
    "20 °C": Fraction(20),
    "3 km/h": Fraction(3),
    "5kg": Fraction(5),
    "5 m": Fraction(5),
    "x = 5": Fraction(5),
    "f(x)=-5": Fraction(-5),
}
NO_NUMBER = ["", "x", "2x", "3 pi", r"2\pi", r"2\sqrt{3}", "x+1", "3 + 4", "(1, 2)", "1,23", "5 or 6", "1/0", "1e999"]


@pytest.mark.parametrize(("text", "value"), WHOLE.items())
def test_a_number_is_read_exactly(text, value):
    assert whole_number(text) == value


@pytest.mark.parametrize("text", [*NO_NUMBER, "9" * 301, r"\frac{1}{0}", "0^{-1}"])
def test_what_is_more_than_a_number_is_none(text):
    assert whole_number(text) is None


def test_the_last_number_of_a_text():
    assert last_number("She has 16 - 3 = <<16-3=13>>13 eggs left") == 13
    assert last_number("5-3") == 3 and last_number("(2)-3") == 3  # the minus is an operator
    assert last_number("it falls to -3 degrees.") == -3
    assert last_number("A: 1,450,000.") == 1450000
    assert last_number("so the answer is $\\frac{3}{4}$.") == Fraction(3, 4)
    assert last_number("10 of them, 50%") == Fraction(1, 2)
    assert last_number("none") is None


def test_a_number_in_a_formula_is_no_gold():
    for text in ("A: 18", "72", "The answer is $18.50.", "x = 5", "He runs 3 miles", "5 + 3 = 8", "5 miles/h"):
        assert last_free_number(text) is not None, text
    for text in ("x+1", "x + 1", r"2\sqrt{3}", r"3\pi", "(1, 2)", "1, 2", "2x", "10 - 3", "Paris"):
        assert last_free_number(text) is None, text


def test_where_the_answer_is_marked():
    assert marked_answer(r"\boxed{1} and then \boxed{\frac{3}{4}} is 7") == r"\frac{3}{4}"
    assert marked_answer(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert marked_answer(r"\boxed{5} and \boxed{6 which is cut") == "5"  # the last one that is balanced
    assert marked_answer(r"\boxed{a \boxed{5} b}") == "5"
    assert marked_answer(r"} \boxed {5}") == "5"
    assert marked_answer(r"\boxed{5} #### 6") == "5"
    assert marked_answer("#### 5\n#### **6**\n7") == "6"
    assert marked_answer("####\n7") == ""  # on its line
    assert marked_answer("the answer is 5") is None


def test_layout_is_no_part_of_an_answer():
    same = [r"\left( \frac{1}{2},\, x \right)", r"( \dfrac12, x ).", r"$(\tfrac{1}{2},x)$", r"y = (\frac{1}{2}, x)"]
    assert {without_layout(text) for text in same} == {r"(\frac{1}{2},x)"}
    assert without_layout(r"\text{Saturday}") == "Saturday"
    assert without_layout(r"2 \pi r") == r"2\pi r"


def score(text, gold):
    return MathAnswer(CONTEXT)(answers(text, gold))[0]


def test_numbers_are_equal_within_the_tolerance():
    assert score("A: 18", "He pays 2 * 9 = 18\n#### 18") == 1.0
    assert score(r"\boxed{0.3333333}", r"#### \frac{1}{3}") == 1.0  # 1e-7 relative
    assert score(r"\boxed{0.33333}", r"#### \frac{1}{3}") == 0.0  # 1e-5
    assert score(r"\boxed{\frac{2}{6}}", r"#### \frac{1}{3}") == 1.0
    assert score("0.0000001", "0") == 0.0  # relative to zero
    assert score("A: 50%", "50") == 0.0 and score("A: 50%", "1/2") == 1.0
    assert MathAnswer(CONTEXT, relative_tolerance=0.1)(answers("A: 19", "18", "17")) == [1.0, 0.0]
    assert score("A: 18", 18) == score("A: 18.5", 18.5) == 1.0


def test_unscorable_is_not_unreadable():
    assert MathAnswer(CONTEXT)(answers("18", None, "Paris", "x+1", ["Paris", None])) == [None] * 4
    assert MathAnswer(CONTEXT)([response("18")]) == [None]
    assert score("no idea", "18") == 0.0 and score("", "18") == 0.0
    assert MathAnswer(CONTEXT)(answers("18", ["17", "18"], ["Paris", "18"], ["17"])) == [1.0, 1.0, 0.0]


def test_marked_answers_that_are_no_numbers_compare_as_text_then_by_sympy():
    assert score(r"\boxed{\text{Saturday}}", r"\boxed{Saturday}") == 1.0
    assert score(r"\boxed{arisP}", r"\boxed{Paris}") == 0.0  # words are no products of letters
    assert score(r"Saturday", r"\boxed{Saturday}") == 0.0  # not marked
    pytest.importorskip("sympy")
    equal = {
        r"2\pi r": r"2r \pi",
        "(x+1)^2": "x^2 + 2x + 1",
        r"\frac{\sqrt3}{2}": r"\frac12 \sqrt{3}",
        r"(1, \frac12)": "(1, 0.5)",
        r"\sqrt{4}": "2",
        r"\sqrt[3]{54}": r"3\sqrt[3]{2}",
    }
    golds = [rf"\boxed{{{gold}}}" for gold in equal.values()]
    samples = [response(rf"\boxed{{{text}}}", {"answer": gold}) for text, gold in zip(equal, golds, strict=True)]
    assert MathAnswer(CONTEXT)(samples) == [1.0] * 6
    assert score(r"\boxed{x+2}", r"\boxed{x+1}") == 0.0


def test_sympy_runs_no_code_and_not_for_long(tmp_path):
    pytest.importorskip("sympy")
    target = tmp_path / "written"
    with Symbolic(1.0) as symbolic:
        assert not symbolic.equal(f"open('{target}','w')", "x+1")
        assert not symbolic.equal("9^{9^{9}}", "x+1")  # refused
        assert not symbolic.equal("((9^{999})^{999})^{999}", "x+1")  # ended
        assert symbolic.equal("x+1", "1+x")  # and the next is answered
        process = symbolic.process
        os.kill(process.pid, 9)
        assert not symbolic.equal("x+2", "2+x") and symbolic.equal("x+3", "3+x")  # a new one
        process = symbolic.process
    assert process.poll() is not None and not target.exists()


def test_no_text_takes_long():
    reward = MathAnswer(CONTEXT)
    pieces = ["1", "1,", "1 ", "1/", "1e", "1.^", "-", "$ ", r"\boxed{", r"\frac{1}{", "####", "\\", " ", "ab "]
    start = time.process_time()
    for text in [piece * 20_000 for piece in pieces] + [r"\boxed{" + piece * 20_000 + "}" for piece in pieces]:
        assert reward(answers(text, "5")) == [0.0]
    assert time.process_time() - start < 20  # a quadratic search takes minutes


def test_real_solutions_are_judged_as_people_judged_them():
    file = DATA / "gsm8k_model_solutions.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    judged = [(solution, row) for row in rows for solution in row.values() if isinstance(solution, dict)]
    samples = [response(solution["solution"], {"answer": row["ground_truth"]}) for solution, row in judged]
    assert MathAnswer(CONTEXT)(samples) == [float(solution["is_correct"]) for solution, _ in judged]  # 3,600 of them


def test_an_answer_holds_number_and_text():
    assert read_answer(r"\boxed{3 apples}") == Answer(Fraction(3), "3apples")
    assert read_answer("x + 1", is_gold=True) == Answer(None, None)
    assert read_answer("x + 1") == Answer(Fraction(1), "1")
