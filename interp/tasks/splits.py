"""Splits and ids of problems by checksums of their texts, independent of any seed."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable

from interp.errors import InterpError
from interp.tasks.base import Problem

TEST_SHARE = 8
"""One drawn problem in this many is held out, by a checksum of its text, so that the splits are disjoint."""


def bucket(text: str, n: int) -> int:
    """Bucket of a text, 0 to n - 1, by its CRC-32; splits made of different buckets are disjoint."""
    return zlib.crc32(text.encode()) % n


def fingerprint(text: str) -> str:
    """Id of a text: the first 64 bits of its SHA-256, as 16 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def drawn_problems(
    task: str,
    terms: int,
    there: int,
    draw: Callable[[random.Random], str],
    problem: Callable[[str], Problem],
    n: int,
    seed: int,
    split: str,
) -> list[Problem]:
    """`n` distinct problems of a split ("train" or "test"), the same for the same seed.

    Args:
        there: distinct problems of both splits.
        draw: a prompt; `problem` is the problem that it asks.

    Raises:
        InterpError: `n` is more than nine tenths of the distinct ones (drawing the last ones would take long).
    """
    share = 1 / TEST_SHARE if split == "test" else 1 - 1 / TEST_SHARE
    enough = int(0.9 * share * there)
    if n > enough:
        raise InterpError(
            f"task.terms = {terms}: {n} {split} problems are wanted and about {enough} can be drawn; "
            "raise task.terms, or take fewer steps or problems"
        )
    rng = random.Random(f"{task}-{terms}-{split}-{seed}")
    seen: dict[str, Problem] = {}
    while len(seen) < n:
        prompt = draw(rng)
        held_out = bucket(prompt, TEST_SHARE) == 0
        if held_out == (split == "test") and prompt not in seen:
            seen[prompt] = problem(prompt)
    return list(seen.values())
