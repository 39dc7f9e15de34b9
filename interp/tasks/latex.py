"""Canonical text of an answer: one spelling for the many that LaTeX, Markdown and Unicode have for the same thing."""

from __future__ import annotations

import re
from functools import lru_cache

OPEN_SET, CLOSE_SET = "⦃", "⦄"
"""Braces of a set; plain braces group."""

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "≤": r"\le ", "≥": r"\ge ",
        "≠": r"\ne ", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "∅": r"\emptyset ", "°": r"^\circ ", "√": r"\sqrt ",
        "±": r"\pm ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⟨": "(", "⟩": ")",
        "\u00a0": r"\,", "\u2009": r"\,", "\u202f": r"\,", "“": '"', "”": '"', "’": "'",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_IN_WORDS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|hbox|operatorname|boxed|fbox)\*?\s*\{([^{}]*)\}"
)
_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"(?<!\\)\\[()\[\]]", " "),  # \( \) \[ \]
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\.?", ""),
        (r"\\(?:display|text|script)style(?![a-zA-Z])", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\{,\}", ","),
        (r",\s*\\!\s*", ","),
        (r"(?<!\\)\\!", ""),
        (r"(?<=\d)(?:(?<!\\)\\[,;: ]|~)(?=\d{3}(?!\d))", ""),  # thousands
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
        (r"\\(?:\{|lbrace(?![a-zA-Z]))", OPEN_SET),
        (r"\\(?:\}|rbrace(?![a-zA-Z]))", CLOSE_SET),
        (r"\\(?:emptyset|varnothing)(?![a-zA-Z])", OPEN_SET + CLOSE_SET),
        (r"\\langle(?![a-zA-Z])", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\\([%#&_])", r"\1"),
        (r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?|\\degree(?![a-zA-Z])", " degrees "),
        (r"\\leq(?:slant)?(?![a-zA-Z])|<=", r"\\le "),
        (r"\\geq(?:slant)?(?![a-zA-Z])|>=", r"\\ge "),
        (r"\\neq(?![a-zA-Z])|!=", r"\\ne "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![a-zA-Z\\])(pi|sqrt|sin|cos|tan|log|ln)(?![a-zA-Z])", r"\\\1 "),
        (r"(?<![a-zA-Z\\])(?:infinity|Infinity|inf)(?![a-zA-Z])", r"\\infty "),
        (r"\*\*", "^"),
        (r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"^{{{found.group().translate(_SUPERSCRIPTS)}}}"),
        (r"\^\s*(-?\w)", r"^\1"),
        (r"\^(-?\d+)", r"^{\1}"),
        (r"\^(-?[a-zA-Z])", r"^{\1}"),
        (r"_\s*(\w)", r"_{\1}"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\frac\s*(\{[^{}]*\})\s*(\d)", r"\\frac\1{\2}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"\s*[,;]?\s(?:and|or)\s", ", "),
        (r"\s*([^\w\s,\\$%])\s*", r"\1"),
        (r"\s*(\\)", r"\1"),
        (r"\s*%", "%"),
        (r"\s+,", ","),
        (r"\s+", " "),
    ]
]
_PREAMBLE = re.compile(r"^(?:the |my )?(?:final )?answer(?: is:?|:) *(?=\S)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """The canonical text of an answer.

    Without delimiters of mathematics, spacing commands, fonts, "the answer is", emphasis, quotation marks and the final
    full stop; `and` and `or` are commas. No spaces stand beside an operator; the one after a comma is kept, since
    `1, 234` is not `1,234`.
    """
    text = _delimiters(_emphasis(text.translate(_UNICODE)))
    for _ in range(3):
        text = _IN_WORDS.sub(r" \1 ", text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _emphasis(_PREAMBLE.sub("", text.replace("¤", "$").strip()))


def _delimiters(text: str) -> str:
    """Without `$...$`; a lone `$`, and every `\\$`, is money."""
    text = text.replace(r"\$", "¤")
    return text.replace("$", " ") if text.count("$") % 2 == 0 else text


def _emphasis(text: str) -> str:
    """Without the marks around the whole text and its final full stop."""
    before = None
    while before != text:
        before, text = text, text.strip()
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
        for mark in ("**", "__", "`", '"', "'"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)]
    return text
