"""Final answers: where a completion states one, and whether it is the gold answer.

Where an answer stands, in this order:

1. in the last complete `\\boxed{...}` or `\\fbox{...}` (braces are counted, so that they nest);
2. after the last `####`;
3. for questions, the last number, or the formula that it stands in.

`####` is GSM8K's ending and a Markdown heading too. Before a box it comes in two cases: where it stands within a line
after the last box, since no heading does; and in a task whose own format it is (`hashes_first`), where a number
follows it, as in `#### 42`, but not in `#### Final answer` or `#### Check: 6*7`.

Every search is one pass over the completion: it may be long, and written to be slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from interp.tasks.equality import same

LONGEST = 2000
"""Characters; a longer answer is compared as text only."""
_HASHES = re.compile(r"(?<!#)####(?!#)")
_TITLE = re.compile(r"[*_ ]*(?:the )?(?:final )?(?:answer|solution|result|conclusion|summary)s?[*_ :]*", re.IGNORECASE)
_HASHED_NUMBER = re.compile(
    r"[*\\$€£ ]*-?[\\$€£ ]*(?:[0-9][0-9,]*)?(?:\.?[0-9]+)(?:/[0-9]+)?[\\%$ ]*(?:[a-zA-Z]+(?: [a-zA-Z]+){0,2})?[.*$ ]*"
)
_BOX = re.compile(
    r"\\(?:boxed|fbox)(?:\s*(?P<box>\{)"
    r"|[ \t]*(?P<bare>-?[0-9][0-9.,/]*|\\(?!boxed|fbox)[a-zA-Z]+[^\s$]*|[a-zA-Z](?![a-zA-Z])))"
    r"|\\.|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)
_IN_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_PREAMBLE = re.compile(r"\banswer(?: is:?|:)\s*(.+?)\.?$", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d(?:[\d,]*\d)?(?:\.\d+)?(?:/\d+)?")
_IN_PROSE = re.compile(
    r"(?:(?<![\w)])[-−])?(?:[0-9](?:[0-9,]*[0-9])?(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+(?!\w))?(?:/[0-9]+)?"
)
_GROUPED = re.compile(r"[-−]?[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_FORMULA = re.compile(r"(?<!\\)\$([^$]*[^$\\])\$|\\\((.*?)\\\)|\\\[(.*?)\\\]")


class _Statement(NamedTuple):
    """Where a completion states an answer."""

    start: int
    """Offset of its mark in the completion, characters."""
    text: str


def marked_answer(completion: str, hashes_first: bool = False) -> str | None:
    """The answer in a box or after `####`, in the module's order; None without either."""
    box, hashed = _last_box(completion), next(_hashed(completion), None)
    if hashes_first and (ending := next(filter(_is_number, _hashed(completion)), None)):
        return ending.text
    if hashed and (box is None or (hashed.start > box.start and not _opens_line(completion, hashed.start))):
        return None if _TITLE.fullmatch(hashed.text) else hashed.text
    return box.text if box else None


def _is_number(statement: _Statement) -> bool:
    return len(statement.text) <= 100 and _HASHED_NUMBER.fullmatch(statement.text) is not None


def _opens_line(completion: str, start: int) -> bool:
    """Whether only spaces stand before an offset on its line."""
    return not completion[completion.rfind("\n", 0, start) + 1 : start].strip()


def _hashed(completion: str) -> Iterator[_Statement]:
    """The first line after each `####`, from the last on; those that nothing follows are left out."""
    end = len(completion)
    for mark in reversed([*_HASHES.finditer(completion)]):
        text, end = completion[mark.end() : end].strip(), mark.start()
        if text:
            yield _Statement(mark.start(), text.partition("\n")[0].strip())


def _last_box(completion: str) -> _Statement | None:
    """The last box that is complete; of nested ones the inner.

    math-verify's own extraction (`extract_boxed_content`) is not used: it gives the rest of the text for a box that is
    not closed, the whole text for none, and joins boxes that stand close together.
    """
    last, opened = None, list[tuple[int, int] | None]()
    for found in _BOX.finditer(completion):
        box = None
        if found["box"]:
            opened.append((found.start(), found.end()))
        elif found["open"]:
            opened.append(None)
        elif found["bare"]:
            box = _Statement(found.start(), found["bare"].rstrip(".,"))
        elif found["close"] and opened and (place := opened.pop()):
            box = _Statement(place[0], completion[place[1] : found.start()].strip())
        if box and box.text and (last is None or box.start > last.start):
            last = box
    return last


def tagged_answer(completion: str) -> str | None:
    """The content of the last `<answer></answer>`; it may run over several lines."""
    start = completion.rfind("<answer>", 0, max(0, completion.rfind("</answer>")))
    if start < 0:
        return None
    return completion[start + len("<answer>") : completion.find("</answer>", start)].strip()


def without_text(stated: str) -> str:
    """`Yes` for `\\text{Yes}`, as LaTeX writes words in a formula."""
    return _IN_TEXT.sub(r"\1", stated)


def last_number(completion: str) -> str | None:
    """The last number of a completion. `1/2`, `1,234.5`, `.5` and `1e-5` are one number each; `1,2` is two, and the
    hyphen of `3-5` is no sign."""
    found = _last_number(completion)
    return found.text if found else None


def _last_number(completion: str) -> _Statement | None:
    found = [*_IN_PROSE.finditer(completion)]
    if not found:
        return None
    last = found[-1]
    skipped = 0 if _GROUPED.match(last[0]) else last[0].rfind(",") + 1
    return _Statement(last.start() + skipped, last[0][skipped:])


def last_value(completion: str) -> str | None:
    """The last number of a completion, or the formula (`$...$`, `\\(...\\)`) that it stands in, if that has LaTeX
    commands: the 3 of `$2\\sqrt{3}$` is not the answer."""
    found = _last_number(completion)
    if found is None:
        return None
    first, end = completion.rfind("\n", 0, found.start) + 1, completion.find("\n", found.start)
    line = completion[first : end if end >= 0 else None]
    if len(line) <= LONGEST:
        for formula in _FORMULA.finditer(line):
            content = next(filter(None, formula.groups()), "")
            if formula.start() <= found.start - first < formula.end() and "\\" in content:
                return content.strip()
    return found.text


def last_line(completion: str) -> str | None:
    """The last line that is not blank, without the words "the answer is" and its full stop."""
    lines = completion.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), None)
    stated = _PREAMBLE.search(last) if last else None
    return stated.group(1) if stated else last


def is_number(text: str) -> bool:
    """Whether a text is one plain number, without an exponent."""
    return _NUMBER.fullmatch(text) is not None


@lru_cache(maxsize=65536)
def same_answer(gold: str, stated: str) -> bool:
    """Whether a stated answer is the gold answer, by the rules of `equality`."""
    if max(len(gold), len(stated)) > LONGEST:
        return gold.strip() == stated.strip()
    return same(gold, stated)
