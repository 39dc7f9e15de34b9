"""Stage folders: complete or absent, written beside their place and renamed, with a manifest and checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp.errors import InterpError

MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "trl", "transformer-lens", "numpy", "polars")


def digest(value: Any) -> str:
    """Sha-256 of a JSON-able value, the same for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Sha-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    """`hashlib.file_digest` for Python 3.10."""
    sha = hashlib.sha256()
    while block := file.read(1 << 20):
        sha.update(block)
    return sha.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete stage folder, None where there is no folder.

    Raises:
        InterpError: the folder is there but its manifest is missing or damaged.
    """
    if not folder.exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return {"files": manifest["files"], "config_hash": manifest["config_hash"], **manifest}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InterpError(
            f"{folder}: {MANIFEST} is missing or damaged; remove the folder to run the stage again"
        ) from error


def verify(folder: Path) -> None:
    """Compare every file of a stage folder with its checksum.

    Raises:
        InterpError: a file is missing or altered; it is named.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InterpError(f"{folder} is not there; run `interp {folder.name}` first")
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.exists() or file_digest(path) != expected:
            state = "altered" if path.exists() else "missing"
            raise InterpError(f"{path} is {state} since it was written; remove {folder} to run the stage again")


@contextmanager
def writing(folder: Path, key: str) -> Iterator[Path]:
    """A scratch folder beside `folder` for one stage; what an interrupted run with the same `key` left is found
    there again. On success the caller calls `publish`.

    Raises:
        InterpError: the disk is full.
    """
    scratch = folder.with_name(f".{folder.name}.partial")
    marker = scratch / ".key"
    with disk_errors(folder):
        if scratch.exists() and not (marker.exists() and marker.read_text() == key):
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        marker.write_text(key)
        yield scratch


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into one line."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        # safetensors and Arrow wrap the system's error in their own, with its text.
        if full or "No space left on device" in str(error):
            raise InterpError(
                f"{folder}: the disk is full; free some space and run again (what is done is kept), or move with --out"
            ) from error
        # NotADirectoryError, PermissionError, FileExistsError ... on the way to the folder itself
        if isinstance(error, (NotADirectoryError, FileExistsError, PermissionError)):
            raise InterpError(f"{folder}: {error.strerror}; choose another place with --out") from error
        raise


def publish(scratch: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with every file's checksum and put `scratch` in the place of `folder` at once."""
    key = scratch / ".key"  # taken away last: what is interrupted before is found again
    files = sorted(p for p in scratch.rglob("*") if p.is_file() and p not in (key, scratch / MANIFEST))
    manifest["files"] = {str(p.relative_to(scratch)): file_digest(p) for p in files}
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    key.unlink()
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
        scratch.replace(folder)
        shutil.rmtree(old)
    else:
        scratch.replace(folder)


def new_manifest(stage: str, key: str, config: dict[str, Any], inputs: dict[str, str], seed: int) -> dict[str, Any]:
    """What a manifest holds before the stage has run."""
    return {
        "stage": stage,
        "config_hash": key,
        "config": config,
        "inputs": inputs,
        "seeds": [seed],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "started": time.time(),
    }


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder inside a stage's scratch folder that is complete or absent."""
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    draft.replace(path)


def refuse_if_short(folder: Path, needed: int, what: str) -> None:
    """Refuse before work starts when the disk cannot take `needed` bytes.

    Raises:
        InterpError: too little space; both numbers are named.
    """
    free = shutil.disk_usage(existing_parent(folder)).free
    if needed > free:
        raise InterpError(
            f"{folder}: {what} needs {needed / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB free; "
            "free some space, or move with --out"
        )


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    while not path.exists():
        path = path.parent
    return path
