"""A trio in memory, for scripts and notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from interp.errors import InterpError
from interp.models.trio import Trio, load_model, open_trio, pick_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoadedTrio:
    """Models by name, each loaded when it is first asked for."""

    trio: Trio
    """Paths, tokenizer and what the models share."""
    device: str = "auto"
    """Where models run; auto takes a GPU when there is one."""
    _models: dict[str, PreTrainedModel] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, name: str) -> PreTrainedModel:
        """One model.

        Raises:
            InterpError: no such model in this trio, or its weights cannot be read.
        """
        if name not in self.trio.paths:
            raise InterpError(f"trio: no model {name!r}; there are {', '.join(self.trio.names)}")
        if name not in self._models:
            self._models[name] = load_model(name, self.trio.paths[name], pick_device(self.device))
        return self._models[name]


def load_trio(
    *, base: str, distilled: str, zero_rl: str, control: str | None = None, device: str = "auto"
) -> LoadedTrio:
    """Check that checkpoints can be compared; each is a folder, a hub id, or a folder of LoRA adapters.

    Raises:
        InterpError: one cannot be read, or widths, depths or ordinary token ids differ.
    """
    paths = {"base": base, "distilled": distilled, "zero_rl": zero_rl}
    return LoadedTrio(open_trio(paths if control is None else paths | {"control": control}), device)
