"""What `torch.save` wrote, read without running code from the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from interp.errors import InterpError, one_line


def load_pickle(path: Path, instead: str) -> Any:
    """The tensors, numbers, texts, lists and dicts of a file. `instead` says what may be done about a file that holds
    more, by somebody who trusts its author.

    Raises:
        InterpError: damaged, or reading it would run code.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files give many kinds, KeyError and EOFError among them
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise InterpError(
                f"{path}: refused, because reading it would run code ({code[1]}) and not only load tensors; where you "
                f"trust its author, {instead}"
            ) from error
        advises = "weights_only" in str(error)  # to read it without the safeguard, which is no advice of ours
        reason = "torch.save did not write it, or wrote more than tensors" if advises else one_line(error)
        raise InterpError(f"{path}: cannot be read ({reason}); save or download it again") from error
