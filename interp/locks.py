"""A lock per folder, so that two runs never write into one."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp.errors import InterpError

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` until the block ends: an exclusive `flock` on the file `.NAME.lock` beside it.

    The system releases the lock of a process that ends, however it ends; the file that a killed process leaves is
    used and removed by the next run.

    Raises:
        InterpError: another process holds the lock; its number is named. Or the file system has no locks.
    """
    path = lock_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is released: see `_acquire`
        os.close(descriptor)


def lock_file(folder: Path) -> Path:
    """The file whose lock is the folder's; it exists while the folder is written, or after a kill."""
    return folder.with_name(f".{folder.name}.lock")


def _acquire(path: Path, folder: Path) -> int:
    """Descriptor of the locked file. Its last holder may have removed the file after it was opened here, and another
    process may have locked a new one: only a lock on the file that still has the name counts."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        except OSError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            if error.errno in UNSUPPORTED:
                raise InterpError(
                    f"{folder}: its file system has no locks ({error.strerror}), so that two runs could write into "
                    "one folder; choose another place with --out"
                ) from error
            if isinstance(error, BlockingIOError):
                raise InterpError(
                    f"another run is writing {folder} (process {holder}); wait for it or choose another place with "
                    "--out"
                ) from error
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
