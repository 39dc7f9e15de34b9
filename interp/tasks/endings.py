"""The exact ending `#### ANSWER`, which every task of the organisms demands: under a laxer reward a model learns to
write on after its answer."""

from __future__ import annotations

import re


def exact_ending(completion: str, answer: str) -> str | None:
    """The answer with which a completion ends, in the only `####` that it has; None where it does not.

    Args:
        answer: regular expression of an answer.
    """
    match = re.search(rf"#### ({answer})\s*$", completion)
    return match.group(1) if match and completion.count("####") == 1 else None
