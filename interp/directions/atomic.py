"""One file, complete or absent."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp.disk import disk_errors, flush, remove
from interp.errors import InterpError


@contextmanager
def replacing(path: Path, suffix: str) -> Iterator[Path]:
    """A draft beside `path`, which takes its place when the block ends and is removed where it fails.

    Raises:
        InterpError: a name without `suffix`, by which readers know the format; a folder of that name; a place that
            cannot be written; the disk is full.
    """
    if path.suffix != suffix:
        raise InterpError(f"{path}: does not end in {suffix}, by which its format is known; name it so")
    if path.is_dir():
        raise InterpError(f"{path}: is a folder; name a file")
    draft = path.with_name(f".{secrets.token_hex(8)}.draft")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield draft
            flush(draft)
            draft.replace(path)
            flush(path.parent)
        finally:
            remove(draft)
