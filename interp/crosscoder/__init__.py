"""Crosscoders over n models: one sparse code, n encoders and n decoders. Knows tensors only.

Names are imported when they are first used, so that `interp.crosscoder.config` loads without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.crosscoder.config import CrosscoderConfig, DictionaryConfig, TrainConfig
    from interp.crosscoder.fit import Trained, train, train_many
    from interp.crosscoder.metrics import Evaluation, evaluate
    from interp.crosscoder.module import Crosscoder

_MODULE_OF = {
    "Crosscoder": "module",
    "CrosscoderConfig": "config",
    "DictionaryConfig": "config",
    "Evaluation": "metrics",
    "TrainConfig": "config",
    "Trained": "fit",
    "evaluate": "metrics",
    "train": "fit",
    "train_many": "fit",
}

__all__ = [
    "Crosscoder",
    "CrosscoderConfig",
    "DictionaryConfig",
    "Evaluation",
    "TrainConfig",
    "Trained",
    "evaluate",
    "train",
    "train_many",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
