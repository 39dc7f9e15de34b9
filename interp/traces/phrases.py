"""Phrases in running text: which spellings are the same, and where a word begins and ends.

A phrase is found as whole words, which end about where Unicode's rules (UAX #29) end them: letters, marks and digits
continue a word, and so does an apostrophe, an underscore or a hyphen between two of them, so that "await", "wait's",
"wait_time" and "wait-and-see" hold no "wait", and "_Wait_" and "wait--no" do. Scripts that put no space between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese) end a word of any other script and mark no ends of their own: "wait我"
holds "wait", and "我等等再说" holds "等等". A Korean particle belongs to its word: "wait는" holds no "wait".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import regex

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_IN_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]"
_APOSTROPHE, _HYPHEN = "['’ʼ＇]", "[-‐‑]"  # U+2010 and U+2011 look like the ASCII one
_JOINT = rf"(?:_|{_APOSTROPHE}|{_HYPHEN})"
_BEGIN = rf"(?:(?<!{_IN_WORD})(?<!{_IN_WORD}{_JOINT})|(?!{_IN_WORD}))"
_END = rf"(?:(?!{_IN_WORD})(?!{_JOINT}{_IN_WORD})|(?<!{_IN_WORD}))"
"""A word's edge, or a sign that needs none: of a phrase such as "..." or "等等"."""
_SPELLINGS = {"'": _APOSTROPHE, "-": _HYPHEN, " ": r"(?:[^\S\n]+|[^\S\n]*\n[^\S\n]*)"}
"""Pattern of a phrase's character in text; a space for any white space with at most one line break, since an
empty line ends a paragraph and with it the phrase."""
_PLAIN = str.maketrans({"’": "'", "ʼ": "'", "＇": "'", "‐": "-", "‑": "-"})
_TOKEN = regex.compile(rf"{_UNSPACED}|{_IN_WORD}+(?:'{_IN_WORD}+)*", regex.VERSION1)


def canonical(phrase: str) -> str:
    """The one form of all spellings that count as the same: lower case, composed characters (NFC), ASCII apostrophes
    and hyphens, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", phrase.lower()).translate(_PLAIN).split())


def words(text: str) -> list[str]:
    """The words of a text in canonical form: runs of letters, marks and digits, with apostrophes inside ("let's");
    hyphens and all other signs part words. In scripts without spaces every character is a word."""
    return _TOKEN.findall(canonical(text))


def pattern(phrases: Iterable[str], *, whole: bool = True) -> regex.Pattern[str]:
    """Finds canonical phrases in any of their spellings, the longest first; none of no phrases. `whole`: as whole
    words, else also inside of words."""
    spelled = "|".join(map(_spelled, sorted(phrases, key=len, reverse=True))) or "(?!)"
    # Case is folded one letter to one (-f): "ss" is not found in "ß", whose canonical form is another.
    begin, end = (_BEGIN, _END) if whole else ("", "")
    return regex.compile(f"(?-f:{begin}(?:{spelled}){end})", regex.VERSION1 | regex.IGNORECASE)


def _spelled(phrase: str) -> str:
    """One phrase, its letters composed or decomposed."""
    forms = dict.fromkeys((phrase, unicodedata.normalize("NFD", phrase)))
    return "|".join("".join(_SPELLINGS.get(c) or regex.escape(c) for c in form) for form in forms)
