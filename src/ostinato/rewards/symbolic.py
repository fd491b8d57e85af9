"""Whether two formulas are equal, asked of sympy in a process of its own that can be killed; run as a script, that one.

Formulas are read as TeX by a grammar of their own and never evaluated as code.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import select
import signal
import subprocess
import sys
from types import TracebackType
from typing import Any

LONGEST = 200  # characters of a formula
START_SECONDS = 60.0
FUNCTIONS = ("sqrt", "sin", "cos", "tan", "log", "ln", "exp")
REWRITES = [
    (re.compile(r"\\sqrt\s*([A-Za-z0-9])"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:cdot|times)(?![A-Za-z])|[×·]"), "*"),
    (re.compile(r"\\infty(?![A-Za-z])|∞"), "oo"),
    (re.compile(r"\\pi(?![A-Za-z])|π"), "pi"),
    (re.compile(rf"\\({'|'.join(FUNCTIONS)})(?![A-Za-z])"), r"\1"),
    (re.compile(r"\^"), "**"),
    (re.compile(" "), ""),
]
INNERMOST = [
    (re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"sqrt\[(\d+)\]\{([^{}]*)\}"), r"((\2)**(1/\1))"),
    (re.compile(r"(sqrt|\*\*)\{([^{}]*)\}"), r"\1(\2)"),
]
SIGNS_OF_A_FORMULA = re.compile(r"[\d+*/(,\\-]")
PROSE = re.compile(r"[A-Za-z]{3,}")
WORD = re.compile(rf"\d+(?:\.\d+)?|{'|'.join(FUNCTIONS)}|pi|oo|[A-Za-z]|\*\*|[-+*/(),]")


class Symbolic:
    """`with Symbolic(seconds) as symbolic: symbolic.equal(a, b)`; the process starts with the first question."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.process: subprocess.Popen[str] | None = None
        self.known: dict[tuple[str, str], bool] = {}

    def __enter__(self) -> Symbolic:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def equal(self, first: str, second: str) -> bool:
        """Whether two formulas in TeX without spaces are equal; False for what cannot be read or takes too long."""
        pair = (first, second)
        if pair not in self.known:
            self.known[pair] = all(map(is_formula, pair)) and self._ask(pair)
        return self.known[pair]

    def _ask(self, pair: tuple[str, str]) -> bool:
        process = self.process or self._start()
        if process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(json.dumps(pair) + "\n")
            process.stdin.flush()
            return self._answer(process, 10 * self.timeout_seconds) == "True"
        except BrokenPipeError:
            self._stop()
            return False

    def _start(self) -> subprocess.Popen[str] | None:
        if importlib.util.find_spec("sympy") is None:
            return None
        command = [sys.executable, "-I", __file__, str(self.timeout_seconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={})
        self._answer(self.process, START_SECONDS)
        return self.process

    def _answer(self, process: subprocess.Popen[str], seconds: float) -> str:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline().strip() if ready else ""
        if not line:  # it hangs where its timer cannot reach, or is dead
            self._stop()
        return line

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def is_formula(text: str) -> bool:
    """Whether a text could be a formula, so that asking is worth its time."""
    try:
        return bool(to_python(text))
    except ValueError:
        return False


def to_python(text: str) -> ast.expr:
    r"""A formula in TeX as a tree of Python's arithmetic. Raises ValueError where it is none."""
    prose = set(PROSE.findall(re.sub(r"\\[A-Za-z]+", "", text)))
    if not 0 < len(text) <= LONGEST or prose or not SIGNS_OF_A_FORMULA.search(text):
        raise ValueError("prose, or too long")
    for pattern, plain in REWRITES:
        text = pattern.sub(plain, text)
    before = ""
    while before != text:
        before = text
        for pattern, plain in INNERMOST:
            text = pattern.sub(plain, text)
    words = WORD.findall(text)
    if "".join(words) != text:
        raise ValueError(f"{text!r} is no formula")
    joined = words[0]
    for left, right in zip(words, words[1:], strict=False):
        if left in FUNCTIONS and right != "(":
            raise ValueError(f"{left} of what?")
        product = (left[-1].isalnum() or left == ")") and (right[0].isalnum() or right == "(")
        joined += ("*" if product and left not in FUNCTIONS else "") + right
    try:
        return ast.parse(joined, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no formula") from error


def to_sympy(node: ast.expr, sympy: Any) -> Any:
    """The same for sympy. Raises ValueError for powers that would take too long."""
    match node:
        case ast.Constant():
            return sympy.Rational(str(node.value))
        case ast.Name("oo" | "pi" as name):
            return getattr(sympy, name)
        case ast.Name(name):
            return sympy.Symbol(name)
        case ast.Tuple(items):
            return sympy.Tuple(*(to_sympy(item, sympy) for item in items))
        case ast.UnaryOp(ast.USub(), inner):
            return -to_sympy(inner, sympy)
        case ast.UnaryOp(ast.UAdd(), inner):
            return to_sympy(inner, sympy)
        case ast.Call(ast.Name(name), [inner]) if name in FUNCTIONS:
            return getattr(sympy, name)(to_sympy(inner, sympy))
        case ast.BinOp(left, operator, right):
            a, b = to_sympy(left, sympy), to_sympy(right, sympy)
            if isinstance(operator, ast.Pow) and b.is_number and abs(b) > 1000:
                raise ValueError(f"the power {b} is too large")
            symbol = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.Pow: "pow"}
            return getattr(a, f"__{symbol[type(operator)]}__")(b)
    raise ValueError(ast.dump(node))


def answer(pair: list[str], sympy: Any) -> bool:
    """Whether sympy finds both equal."""
    first, second = (to_sympy(to_python(text), sympy) for text in pair)
    if isinstance(first, sympy.Tuple) or isinstance(second, sympy.Tuple):
        return bool(first == second)
    return bool(sympy.simplify(first - second) == 0)


def main(seconds: float) -> None:
    """Answer one pair a line; SIGPROF ends a pair after so many seconds of computing, however busy the machine is."""
    import resource

    import sympy

    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    signal.signal(signal.SIGPROF, signal.default_int_handler)
    print("ready", flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            result = answer(json.loads(line), sympy)
        except (Exception, KeyboardInterrupt):
            result = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(result, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
