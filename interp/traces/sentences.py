"""Where the sentences of a text begin and end."""

from __future__ import annotations

import re

ENDS = ".!?;…。！？；\n"
"""Characters that end a sentence."""
_STOP, _ANSWER = f"[{ENDS}]", "####"
_SENTENCE = re.compile(rf"(?:{_ANSWER})?(?:(?!{_STOP}|{_ANSWER}).|(?<=\d)\.(?=\d))+{_STOP}*|{_STOP}+|{_ANSWER}")


def sentences(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of every sentence, which tile the text: one ends with full stops, marks of exclamation
    or question, semicolons or line breaks, but not with the point of a decimal; `####` begins one. The point of an
    abbreviation ends one, wrongly."""
    return [match.span() for match in _SENTENCE.finditer(text)]


def tail(text: str, most: int) -> str:
    """The last `most` characters, without the sentence that they begin in the middle of."""
    if len(text) <= most:
        return text
    end = text[-most:]
    first = sentences(end)[0][1]
    return end[first:] if first < len(end) else end.partition(" ")[2]
