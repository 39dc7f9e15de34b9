"""Stage folders: complete or absent, written beside their place and renamed, with a manifest and checksums.

While a stage runs, its lock is held (`locks`) and its files are in the hidden scratch folder `.STAGE.partial`. A run
that is killed leaves this folder, and the next run with the same key resumes from it. Files and folders in it whose
names begin with a dot (the key, drafts, training states, checksums of finished units) are never published.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp.disk import disk_errors, flush, remove
from interp.errors import InterpError
from interp.locks import lock_file, locked

MANIFEST = "manifest.json"
KEY = ".key"
"""File in a scratch folder: the key of the run that writes there."""
PACKAGES = ("torch", "transformers", "trl", "transformer-lens", "numpy", "polars")
HASHED_WHOLE = 10**9
"""Bytes up to which `verify` reads all files of a folder; of larger ones those whose size or time has changed."""


def digest(value: Any) -> str:
    """Sha-256 of a JSON-able value, the same for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Sha-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_manifest(
    stage: str, key: str, config: dict[str, Any], inputs: dict[str, str], seed: int, device: str
) -> dict[str, Any]:
    """The entries of a manifest that are known before the stage runs."""
    return {
        "stage": stage,
        "config_hash": key,
        "config": config,
        "inputs": inputs,
        "seeds": [seed],
        "device": device,
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "started": time.time(),
    }


@cache
def commit() -> str | None:
    """Abbreviated git commit of this package's source, with `-dirty` after local changes; None outside a checkout."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # the checkout is not one that only contains a venv
        return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with a checksum of its own; the file is complete or absent."""
    signed = manifest | {"checksum": digest({k: v for k, v in manifest.items() if k != "checksum"})}
    draft = folder / f".{MANIFEST}"
    draft.write_text(json.dumps(signed, indent=1, sort_keys=True))
    flush(draft)
    draft.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete stage folder, None where there is no folder.

    Raises:
        InterpError: the folder exists but its manifest is missing or damaged.
    """
    if not folder.exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        is_whole = manifest.pop("checksum") == digest(manifest)
        manifest = {"files": manifest["files"], "config_hash": manifest["config_hash"], **manifest}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _bad_manifest(folder) from error
    if not is_whole:
        raise _bad_manifest(folder)
    return manifest


def _bad_manifest(folder: Path) -> InterpError:
    return InterpError(
        f"{folder}: {MANIFEST} is missing, damaged or of another version; remove the folder to run the stage again"
    )


def verify(folder: Path) -> None:
    """Compare a stage folder with its manifest: the manifest's own checksum, then that of every file. In a folder of
    more than `HASHED_WHOLE` bytes a file whose size and modification time are as recorded is not read.

    Raises:
        InterpError: a file is missing or altered; it is named.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InterpError(f"{folder} is not there; run `interp {folder.name}` first")
    stats = manifest.get("stats", {})
    trusted = stats if sum(size for size, _ in stats.values()) > HASHED_WHOLE else {}
    for name, expected in manifest["files"].items():
        path = folder / name
        if path.is_file() and trusted.get(name) == _stat(path):
            continue
        if not _is_intact(path, expected):
            state = "altered" if path.exists() else "missing"
            raise InterpError(f"{path} is {state} since it was written; remove {folder} to run the stage again")


def _is_intact(path: Path, expected: str) -> bool:
    return path.is_file() and file_digest(path) == expected


def _stat(path: Path) -> list[int]:
    """[bytes, modification time in ns]."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


@contextmanager
def writing(folder: Path, key: str) -> Iterator[Path]:
    """A scratch folder beside `folder` for one stage, with the folder's lock held. The files of an interrupted run
    with the same `key` are kept, except finished units that are damaged. On success the caller calls `publish`.

    Raises:
        InterpError: another run is writing the folder, or the disk is full.
    """
    scratch = folder.with_name(f".{folder.name}.partial")
    with disk_errors(folder), locked(folder):
        _settle(folder)
        if scratch.exists() and not ((scratch / KEY).is_file() and (scratch / KEY).read_bytes() == key.encode()):
            remove(scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / KEY).write_text(key)
        _drop_damaged_units(scratch)
        yield scratch


def publish(scratch: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with every file's checksum, then rename `scratch` to `folder`.

    A run killed at any point of it loses nothing: a scratch folder that was complete is `intact`, and `recover`
    undoes or ends the replacement of an older folder. Files reach the disk before the rename (fsync), so that a
    folder is complete or absent after a power failure too.
    """
    files = {str(p.relative_to(scratch)): p for p in sorted(scratch.rglob("*")) if p.is_file()}
    files = {name: path for name, path in files.items() if name != MANIFEST and not name.startswith(".")}
    for path in files.values():
        flush(path)
    manifest["files"] = {name: file_digest(path) for name, path in files.items()}
    manifest["stats"] = {name: _stat(path) for name, path in files.items()}
    write_manifest(scratch, manifest)
    for hidden in scratch.glob(".*"):
        if hidden.name != KEY:
            remove(hidden)
    for inner in (p for p in (scratch, *scratch.rglob("*")) if p.is_dir()):
        flush(inner)
    if folder.exists():
        remove(_old(folder))
        folder.replace(_old(folder))
    scratch.replace(folder)
    flush(folder.parent)
    _settle(folder)


def intact(folder: Path) -> dict[str, Any] | None:
    """The manifest of a stage folder in which nothing is missing or altered, else None. A scratch folder has one if a
    run was killed after the stage had ended and before the folder was renamed."""
    try:
        verify(folder)
        return read_manifest(folder)
    except InterpError:
        return None


def recover(folder: Path) -> None:
    """Undo or end the replacement of a stage folder that a killed run began, and remove what it left. The earlier
    results come back unless the new ones are in place.

    Raises:
        InterpError: another run is writing the folder.
    """
    if any(path.exists() for path in (_old(folder), folder / KEY, lock_file(folder))):
        with disk_errors(folder), locked(folder):
            _settle(folder)


def _settle(folder: Path) -> None:
    old = _old(folder)
    if not folder.exists():
        if old.exists():
            old.replace(folder)
        return
    (folder / KEY).unlink(missing_ok=True)
    try:
        remove(old)
    except OSError as error:
        _say(f"{old} holds the earlier results and cannot be removed ({error.strerror}); remove it by hand")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder that is complete or absent, written as a draft beside its place. In a stage's scratch folder it is a
    unit of it (see `finish_unit`). Where another process completes the same folder first, that one stays."""
    me = f"{socket.gethostname()}-{os.getpid()}"
    _drop_stale_drafts(path)
    draft = path.with_name(f".{path.name}.draft-{me}")
    remove(draft)
    draft.mkdir(parents=True)
    try:
        yield draft
        if (path.parent / KEY).is_file():
            files = sorted(p for p in draft.rglob("*") if p.is_file())
            _record(path.parent, path.name, {f"{path.name}/{p.relative_to(draft)}": p for p in files})
        try:
            draft.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        remove(draft)


def _drop_stale_drafts(path: Path) -> None:
    """Remove the drafts of `path` by processes of this machine that have ended."""
    start = f".{path.name}.draft-{socket.gethostname()}-"
    for draft in path.parent.iterdir() if path.parent.exists() else ():
        number = draft.name.removeprefix(start)
        if draft.name.startswith(start) and number.isdigit() and not _runs(int(number)):
            remove(draft)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def finish_unit(scratch: Path, name: str, files: Iterable[str]) -> None:
    """Record that the unit `name` of a stage is complete, with the checksums of its `files` (relative to `scratch`).
    When an interrupted run is resumed, a unit with a damaged file is removed (`writing`)."""
    _record(scratch, name, {file: scratch / file for file in files})


def unit_is_finished(scratch: Path, name: str) -> bool:
    """Whether an earlier run, or this one, has finished the unit."""
    return _unit(scratch, name).exists()


def _record(scratch: Path, name: str, files: Mapping[str, Path]) -> None:
    for path in files.values():
        flush(path)
    digests = {file: file_digest(path) for file, path in files.items()}
    draft = scratch / f".{name}.unit-draft"
    draft.write_text(json.dumps([digests, digest(digests)]))
    flush(draft)
    draft.replace(_unit(scratch, name))


def _unit(scratch: Path, name: str) -> Path:
    return scratch / f".{name}.unit"


def _drop_damaged_units(scratch: Path) -> None:
    """Remove the units in which a file is missing or altered, so that they are run again."""
    for record in sorted(scratch.glob(".*.unit")):
        name = record.name[1:].removesuffix(".unit")
        files = _recorded(record)
        bad = [
            f for f, expected in files.items() if not (scratch / f).is_file() or file_digest(scratch / f) != expected
        ]
        if files and not bad:
            continue
        parts = {scratch / Path(file).parts[0] for file in files} | {scratch / name}
        if any(path.exists() for path in parts):  # else it was killed before its folder was renamed
            _say(f"{scratch / (bad or [record.name])[0]} is damaged since it was written; {name} is run again")
        for path in (*parts, record):
            remove(path)


def _recorded(record: Path) -> dict[str, str]:
    """File to checksum; empty where the record itself is damaged."""
    try:
        digests, own = json.loads(record.read_text())
    except (ValueError, TypeError):
        return {}
    return digests if digest(digests) == own else {}


def refuse_if_short(folder: Path, needed: int, what: str) -> None:
    """Refuse before work starts when the disk cannot take `needed` bytes.

    Raises:
        InterpError: too little space; both numbers are named.
    """
    free = shutil.disk_usage(existing_parent(folder)).free
    if needed > free:
        raise InterpError(
            f"{folder}: {what} needs {_megabytes(needed)} and the disk has {_megabytes(free)} free; "
            "free some space, or move with --out"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 10**7 else f"{size / 1e6:.3f} MB"


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    while not path.exists():
        path = path.parent
    return path


def _say(line: str) -> None:
    from interp.progress import console

    console.print(f"  {line}", markup=False, soft_wrap=True)
