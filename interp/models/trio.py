"""Loading the study's models and tokenizers, and the checks that make residuals comparable token by token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import InterpError, one_line
from interp.models.source import locate
from interp.models.weights import read_weights
from interp.names import EDITED
from interp.traces.tokens import end_id

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GENERATION = "generation_config.json"
"""File of a checkpoint that may name several end tokens."""


@dataclass(frozen=True)
class Trio:
    """Checkpoints that share an architecture and the ordinary token ids; `control` may be among them."""

    paths: dict[str, str]
    """Model to local folder or hub id."""
    tokenizers: dict[str, PreTrainedTokenizerBase]
    """Each model's own, with its own special tokens and chat template."""
    end_ids: dict[str, tuple[int, ...]]
    """Every id that ends a completion of the model."""
    masked_ids: tuple[int, ...]
    """Ids that mean different special tokens in different models: no residual is read where one stands."""
    n_layers: int
    d_model: int
    context: int | None
    """Most positions that every model takes; None where no config states them."""

    @property
    def names(self) -> list[str]:
        return list(self.paths)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The edited model's: it decodes the token stream."""
        return self.tokenizers[EDITED]

    def pieces(self, token: int) -> str:
        """How the tokenizers spell an id, for messages: `'<think>'`, or each spelling where they differ."""
        spelled = [str(t.convert_ids_to_tokens(token)) for t in self.tokenizers.values()]
        return " / ".join(map(repr, dict.fromkeys(spelled)))


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
        tokenizers=tokenizers,
        end_ids={name: read_end_ids(name, path, tokenizers[name]) for name, path in paths.items()},
        masked_ids=disagreeing_ids(tokenizers),
        n_layers=base.num_hidden_layers,
        d_model=base.hidden_size,
        context=min((c.max_position_embeddings for c in configs.values() if _states_context(c)), default=None),
    )


def read_model_config(name: str, path: str) -> Any:
    """A checkpoint's architecture: the text model's config.

    Raises:
        InterpError: it cannot be read.
    """
    from transformers import AutoConfig

    source = locate(name, path)
    try:
        config = AutoConfig.from_pretrained(source.model, trust_remote_code=False)
    except Exception as error:  # a wrong type or value raises whatever the architecture's own checks do
        reason = "it brings code of its own, which is not run" if "trust_remote_code" in str(error) else one_line(error)
        raise InterpError(
            f"checkpoints.{name} = {path}: its config cannot be read ({reason}); give a model folder or hub id"
        ) from error
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
        tokenizer = (PreTrainedTokenizerFast if generic else AutoTokenizer).from_pretrained(
            folder, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise InterpError(
            f"checkpoints.{name} = {path}: no tokenizer can be read ({one_line(error)}); save it beside the model"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InterpError(f"checkpoints.{name} = {path}: the tokenizer has no end token; set eos_token")
    return tokenizer


def read_end_ids(name: str, path: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id that ends a completion of a checkpoint, rising: its tokenizer's end token, and `eos_token_id` of its
    generation_config.json (one or a list), which is the base's for adapters.

    Raises:
        InterpError: the file is there and cannot be read.
    """
    from transformers.utils.hub import cached_file

    ends = {end_id(tokenizer)}
    try:
        file = cached_file(locate(name, path).model, GENERATION)
    except OSError:  # the checkpoint has no such file
        return tuple(ends)
    try:
        stated = json.loads(Path(str(file)).read_text()).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise InterpError(f"{file}: not a JSON object ({one_line(error)}); save it again") from error
    listed = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if not all(type(token) is int and token >= 0 for token in listed):
        raise InterpError(f"{file}: eos_token_id = {stated}; give a token id, or a list of them")
    return tuple(sorted(ends.union(listed)))


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
    """Special ids whose piece is not the same in every tokenizer, rising.

    Reused special slots are common: `<think>` in a distillation is `<|box_start|>` in its base.

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
