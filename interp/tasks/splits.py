"""Checksums of problem texts: the split and the id of a problem, independent of any seed."""

from __future__ import annotations

import hashlib
import zlib


def bucket(text: str, n: int) -> int:
    """Bucket of a text, 0 to n - 1, by its CRC-32; splits made of different buckets are disjoint."""
    return zlib.crc32(text.encode()) % n


def fingerprint(text: str) -> str:
    """Id of a text: the first 64 bits of its SHA-256, as 16 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
