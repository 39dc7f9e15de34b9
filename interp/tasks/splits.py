"""Checksums of problems' texts: which split a text falls into, whatever the seed, and what it is called."""

from __future__ import annotations

import hashlib
import zlib


def bucket(text: str, n: int) -> int:
    """One of `n` buckets, always the same for the same text: splits made of different buckets never meet."""
    return zlib.crc32(text.encode()) % n


def fingerprint(text: str) -> str:
    """A short name of a text: 64 bits of its SHA-256, so that no two problems of a study share one."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
