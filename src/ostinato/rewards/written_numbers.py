r"""Numbers as people and models write them, read exactly: `-$1,234.50`, `3/4`, `2\frac{1}{2}`, `3\times10^5`, `5\%`."""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 300  # characters of a number, and the largest power: what is longer is not read, so that none takes long
PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+(?!\w))?"
PART = rf"(?:\{{\s*([+-]?{PLAIN})\s*\}}|(\d))"  # of a fraction: in braces, or one digit
FRACTION = re.compile(rf"(\d\s*)?\\[dt]?frac\s*{PART}\s*{PART}")
POWER = re.compile(
    rf"(?<![\d.,])({PLAIN})(?:\s*(?:\\times|\\cdot|[×·*x])\s*(10))?\^(?:\{{\s*([+-]?\d+)\s*\}}|([+-]?\d+))"
)
SPELLINGS = [
    (re.compile("[\u2212\u2013]"), "-"),  # minus sign, en dash
    (re.compile(r"\{,\}|,\\!"), ","),
    (re.compile(r"(?<=\d)\\[,!](?=\d)"), ""),
]
CURRENCY = r"(?:US)?\\?[$€£¥₹]\s*"
SIGN = r"(?<![\w)\]}.])[+-]"  # behind these it is an operator
NUMBER = re.compile(
    rf"(?P<sign>{SIGN})?(?:{CURRENCY}(?P<inner>{SIGN})?)?"
    rf"(?:(?:(?P<whole>\d+)\s+)?(?P<top>[+-]?{PLAIN})/(?P<bottom>[+-]?{PLAIN})|(?P<plain>{PLAIN}))"
    r"(?P<percent>\s?(?:\\?%|percent\b))?"
)
TEXT = r"\\(?:text|textrm|textbf|mathrm|mbox)\s*\{[^{}\d]*\}"
NO_UNIT = r"(?!(?:pi|sqrt|sin|cos|tan|log|ln)\b)"
UNIT = re.compile(
    r"\s*(?:\^?\{?(?:\\circ|°)\}?\s?[CF]?|[€£¥₹]|(?:[cmk]m|[km]?g|m[lL]|ft|lbs?|oz|mph|hrs?|mins?)\b)?"
    rf"(?:\s*{TEXT}|\s+{NO_UNIT}(?:[A-Za-z]{{2,}}|[mgshLCFK]\b)|/[A-Za-z]+|-[A-Za-z]{{2,}})*(?:\^\{{?[23]\}}?)?[\s.,;!]*"
)
PREFIX = re.compile(r"\s*(?:[A-Za-z]\w*(?:\([a-z]\))?\s*=)?\s*(?:(?P<sign>[+-])\s+(?=[\d.]))?")
FORMULA_BEFORE = re.compile(r"(?:[\w)\]}{(\[\\]|[*+/^<>]\s*|\d\s*[,-]\s*)\Z")
FORMULA_AFTER = re.compile(r"[\w({^*+/=\])}-]|\s*\\|\s+[*+/^=<>-]")


def spelled_plainly(text: str) -> str:
    r"""TeX fractions of numbers as `a/b`, powers of numbers as numbers; one kind of minus, comma and digit groups."""
    for pattern, plain in SPELLINGS:
        text = pattern.sub(plain, text)
    text = FRACTION.sub(lambda m: f"{m[1].strip() + ' ' if m[1] else ''}{m[2] or m[3]}/{m[4] or m[5]}", text)
    return POWER.sub(_power, text)


def _power(match: re.Match[str]) -> str:
    base, ten, exponent = match[1], match[2], match[3] or match[4]
    value = _plain(base)
    if value is None or len(exponent) > 4 or abs(int(exponent)) > LONGEST or (not ten and len(base) > 9):
        return match[0]
    if value == 0 and not ten and int(exponent) < 0:
        return match[0]
    return str(value * Fraction(10) ** int(exponent) if ten else value ** int(exponent))


def whole_number(text: str) -> Fraction | None:
    """The number that a text is, perhaps behind `x =` and before a unit; None where it is anything else."""
    text = re.sub(CURRENCY, "", spelled_plainly(text))
    prefix = PREFIX.match(text)
    assert prefix is not None
    match = NUMBER.match(text, prefix.end())
    if match is None or not UNIT.fullmatch(text, match.end()):
        return None
    value = _value(match)
    return -value if value is not None and prefix["sign"] == "-" else value


def last_number(text: str) -> Fraction | None:
    """The last number in a text, None where there is none."""
    match = _last(spelled_plainly(text))
    return _value(match) if match else None


def last_free_number(text: str) -> Fraction | None:
    """The last number in a text, None where it is part of a formula, as 1 is in `x+1`."""
    if (whole := whole_number(text)) is not None:
        return whole
    plain = spelled_plainly(text)
    match = _last(plain)
    if match is None or FORMULA_BEFORE.search(plain[: match.start()]) or FORMULA_AFTER.match(plain, match.end()):
        return None
    return _value(match)


def _last(text: str) -> re.Match[str] | None:
    match = None
    for match in NUMBER.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return match


def _value(match: re.Match[str]) -> Fraction | None:
    if match["plain"]:
        value = _plain(match["plain"])
    else:
        top, bottom, whole = _plain(match["top"]), _plain(match["bottom"]), _plain(match["whole"] or "0")
        value = None if top is None or not bottom or whole is None else whole + top / bottom
    if value is None:
        return None
    negative = [match["sign"], match["inner"]].count("-") == 1
    return (-value if negative else value) / (100 if match["percent"] else 1)


def _plain(text: str) -> Fraction | None:
    _, _, exponent = text.lower().partition("e")
    if len(text) > LONGEST or len(exponent) > 4 or abs(int(exponent or 0)) > LONGEST:
        return None
    return Fraction(text.replace(",", ""))
