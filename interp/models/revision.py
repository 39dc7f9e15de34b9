"""Which version of a checkpoint or data set a name stands for now."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from interp.folders import digest
from interp.models.smollm2 import FETCHED, PACKAGE
from interp.models.source import ADAPTER

TIMEOUT = 10.0
"""Seconds to wait for the hub."""


def revision(path: str) -> str:
    """A hash of a checkpoint that changes when its files do: of a local folder names, sizes and modification times
    (reading gigabytes of weights at every start would be worse), of adapters also their base's, of a hub id its commit.
    """
    base = _base_of_adapters(Path(path).expanduser())
    return _whole(path) if base is None else digest([_whole(path), _whole(base)])


def _whole(path: str) -> str:
    if path in FETCHED:
        return PACKAGE
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return hub_commit(path, "model")
    return digest([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir()) if p.is_file()])


def _base_of_adapters(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):  # no adapters, or damaged ones, which are named when read
        return None


@cache
def hub_commit(name: str, kind: str) -> str:
    """NAME@COMMIT of a repository on the Hugging Face hub (`kind` is model or dataset): the hub's newest, offline the
    one in the cache, and the name alone where neither can be had."""
    commit = _newest(name, kind) or _cached(name, kind)
    return f"{name}@{commit}" if commit else name


def _newest(name: str, kind: str) -> str | None:
    from huggingface_hub import HfApi, constants

    if constants.is_offline_mode():
        return None
    try:
        return HfApi().repo_info(name, repo_type=kind, timeout=TIMEOUT).sha
    except Exception:  # no network, no such repository, no right to it: reported where the files are read
        return None


def _cached(name: str, kind: str) -> str | None:
    """The commit that offline reads of `main` use."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
        return (folder / "refs" / "main").read_text().strip() or None
    except OSError:
        return None
