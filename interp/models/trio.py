"""Loading the study's models, and the checks that make them comparable position by position."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import InterpError
from interp.models.source import locate
from interp.models.weights import read_weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Trio:
    """Checkpoints that share an architecture and a tokenizer; `control` may be among them."""

    paths: dict[str, str]
    """Arm to local folder or hub id."""
    tokenizer: PreTrainedTokenizerBase
    """The distilled model's: the one with the most special tokens in use."""
    masked_ids: tuple[int, ...]
    """Ids that mean different special tokens in different models; texts with them are left out."""
    n_layers: int
    d_model: int
    context: int | None
    """Most positions that every model takes; None where none of them says."""

    @property
    def names(self) -> list[str]:
        return list(self.paths)


def open_trio(paths: dict[str, str]) -> Trio:
    """Read the configs and tokenizers, not the weights, and check that the models can be compared.

    Raises:
        InterpError: a folder is missing or unreadable, widths or depths differ, or ordinary token ids differ.
    """
    configs = {name: read_model_config(name, path) for name, path in paths.items()}
    for key in ("hidden_size", "num_hidden_layers"):
        _refuse_different(key, {name: getattr(config, key) for name, config in configs.items()})
    tokenizers = {name: read_tokenizer(name, path) for name, path in paths.items()}
    base = configs["base"]
    return Trio(
        paths=paths,
        tokenizer=tokenizers["distilled"],
        masked_ids=disagreeing_ids(tokenizers),
        n_layers=base.num_hidden_layers,
        d_model=base.hidden_size,
        context=min((c.max_position_embeddings for c in configs.values() if _states_context(c)), default=None),
    )


def read_model_config(name: str, path: str) -> Any:
    """A checkpoint's architecture.

    Raises:
        InterpError: it cannot be read.
    """
    from transformers import AutoConfig

    source = locate(name, path)
    try:
        config = AutoConfig.from_pretrained(source.model)
    except (OSError, ValueError, KeyError) as error:
        raise InterpError(f"checkpoints.{name} = {path}: {_one_line(error)}; give a model folder or hub id") from error
    return config.get_text_config()


def read_tokenizer(name: str, path: str) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer.

    Raises:
        InterpError: it cannot be read, or has no end token.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    folder = locate(name, path).model
    if Path(folder).is_dir() and not any(Path(folder).glob("*token*")):
        # transformers 5 would make up an empty one.
        raise InterpError(f"checkpoints.{name} = {path}: no tokenizer in the folder; save it beside the model")
    try:
        # For some architectures AutoTokenizer puts its own class, with its own decoder, in the place of a generic one
        # that the folder declares (transformers 5: Qwen2); a word-level tokenizer would then lose its spaces.
        declared = get_tokenizer_config(folder).get("tokenizer_class")
        generic = declared in ("TokenizersBackend", "PreTrainedTokenizerFast")
        tokenizer = (PreTrainedTokenizerFast if generic else AutoTokenizer).from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise InterpError(
            f"checkpoints.{name} = {path}: no tokenizer can be read ({_one_line(error)}); save it beside the model"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InterpError(f"checkpoints.{name} = {path}: the tokenizer has no end token; set eos_token")
    return tokenizer


def load_model(name: str, path: str, device: torch.device) -> PreTrainedModel:
    """A checkpoint's model for evaluation, in its own dtype on a GPU and in fp32 on the CPU; adapters are merged.

    Raises:
        InterpError: the weights are missing, damaged, or not those of the model.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model: Any = read_weights(name, path, torch.float32 if device.type == "cpu" else "auto")
    return model.to(device).eval()


def pick_device(wanted: str) -> torch.device:
    """`auto` is a GPU where there is one.

    Raises:
        InterpError: a GPU is asked for and there is none.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InterpError("device = cuda: torch finds no GPU here; set device to auto or cpu")
    use_gpu = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")


def disagreeing_ids(tokenizers: dict[str, PreTrainedTokenizerBase]) -> tuple[int, ...]:
    """Special ids whose piece is not the same in every tokenizer.

    Reused special slots are common (`<think>` in a distillation is `<|box_start|>` in its base) and are masked.

    Raises:
        InterpError: ordinary ids differ; the first ten are named.
    """
    pieces = {name: {i: piece for piece, i in t.get_vocab().items()} for name, t in tokenizers.items()}
    special = {i for t in tokenizers.values() for i in t.added_tokens_decoder}
    everywhere = set().union(*pieces.values())
    differing = sorted(i for i in everywhere if len({vocab.get(i) for vocab in pieces.values()}) > 1)
    ordinary = [i for i in differing if i not in special]
    if ordinary:
        shown = ", ".join(f"{i} ({' / '.join(repr(vocab.get(i)) for vocab in pieces.values())})" for i in ordinary[:10])
        raise InterpError(
            f"checkpoints: the tokenizers of {', '.join(pieces)} disagree on {len(ordinary)} ordinary ids: {shown}; "
            "compare models of one family only"
        )
    return tuple(differing)


def _states_context(config: Any) -> bool:
    return isinstance(getattr(config, "max_position_embeddings", None), int)


def _refuse_different(key: str, values: dict[str, int]) -> None:
    if len(set(values.values())) > 1:
        stated = ", ".join(f"{name} {value}" for name, value in values.items())
        raise InterpError(f"checkpoints: {key} differs: {stated}; compare checkpoints of one architecture")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
