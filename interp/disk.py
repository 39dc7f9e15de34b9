"""Files and folders on the disk: errors that the user can fix, removal, and flushing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp.errors import InterpError

FULL = (
    "No space left on device",  # safetensors and Arrow wrap the system's error in their own, with its text
    "Invalid thrift: transport error",  # polars, where the first bytes of a Parquet file do not fit
    "unexpected pos",  # torch.save
    "PytorchStreamWriter failed",
)
"""Texts by which libraries report a full disk."""
PLACE = (errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
"""Errors on the way to a folder that cannot be written."""


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk, and a place that cannot be written, into one line.

    Raises:
        InterpError: in their stead.
    """
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(text in str(error) for text in FULL):
            raise InterpError(
                f"{folder}: the disk is full; free some space and run again (finished work is kept), or move with --out"
            ) from error
        if isinstance(error, OSError) and error.errno in PLACE:
            raise InterpError(f"{folder}: {error.strerror}; choose another place with --out") from error
        raise


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, where there is one; folders that are read-only as well."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
    shutil.rmtree(path)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without it
            raise
    finally:
        os.close(descriptor)


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
