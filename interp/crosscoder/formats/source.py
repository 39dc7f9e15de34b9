"""From what the user names to one weights file on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from interp.crosscoder.formats.recognise import recognise
from interp.crosscoder.formats.weights import PICKLES, SAFETENSORS, without_prefix
from interp.errors import InterpError

_SUFFIXES = (SAFETENSORS, *PICKLES)
_CONFIGS = (".json", ".yaml")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(/\w[\w.-]*)*")


def locate(source: Path | str) -> Path:
    """The weights file that a folder, a file or a hub id stands for; only a string is ever looked up on the hub.

    Raises:
        InterpError: nothing of that name, no weights there, or several of which one must be named.
    """
    path = Path(source)
    if not path.exists():
        if isinstance(source, Path) or not _HUB_ID.fullmatch(source):
            raise InterpError(f"{source}: no such file or folder; name one, or a hub id such as owner/name")
        path = _download(source)
    if path.is_dir():
        return _only_weights(path, source)
    if path.suffix not in _SUFFIXES:
        raise InterpError(f"{path}: not a weights file; name one that ends in {', '.join(_SUFFIXES)}, or its folder")
    return path


def _download(source: str) -> Path:
    """Fetch what of a hub repository one crosscoder needs: repositories may hold a folder for every layer."""
    from huggingface_hub import snapshot_download

    owner, name, *rest = source.split("/")
    inside = Path(*rest)
    is_file = inside.suffix in _SUFFIXES
    folder = inside.parent if is_file else inside
    start = "" if folder == Path() else f"{folder.as_posix()}/"
    wanted = [inside.as_posix()] if is_file else [f"{start}*{suffix}" for suffix in _SUFFIXES]
    wanted += [f"{start}*{suffix}" for suffix in _CONFIGS]
    try:
        root = snapshot_download(f"{owner}/{name}", allow_patterns=wanted, ignore_patterns=[f"{start}*/*"])
    except (OSError, ValueError) as error:  # every error of the hub's is one of these
        reason = " ".join(str(error).split())[:200]
        raise InterpError(
            f"{source}: no such file or folder here, and the hub did not give {owner}/{name} ({reason});"
            " correct the name, or download it where there is a network"
        ) from error
    if not (Path(root) / inside).exists():
        raise InterpError(f"{source}: {owner}/{name} on the hub has no weights in {inside.as_posix()}; correct it")
    return Path(root) / inside


def _only_weights(folder: Path, source: Path | str) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(found) > 1:  # a folder may hold other tensors too, such as SAELens' sparsity.safetensors
        safe = [path for path in found if path.suffix == SAFETENSORS]
        pickled = [path for path in found if path.suffix != SAFETENSORS]
        found = [path for path in safe if _is_known(path)] or pickled or safe
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:6])
        raise InterpError(f"{source}: holds several weights files ({names}); name one of them")
    if not found:
        within = sorted({path.parent.name for path in folder.glob("*/*") if path.suffix in _SUFFIXES})
        hint = f"; its folders {', '.join(within[:6])} have some" if within else ", or its subfolder on the hub"
        raise InterpError(f"{source}: there are no weights ({', '.join(_SUFFIXES)}) in it; name the folder{hint}")
    return found[0]


def _is_known(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return False
    return recognise(without_prefix(shapes)) is not None
