"""Where the decision to check can be read: the scanned sites, the one that was chosen, and the deciding tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from interp.report.inputs import Study
from interp.report.numbers import number, real
from interp.report.text import visible_token

ORDER = ("attn_out", "resid_mid", "mlp_out", "resid_post")
"""The sites of a block, in the order of computation."""
TOKENS_SHOWN = 20
"""Of one side of the margin."""


@dataclass(frozen=True)
class Side:
    """The tokens that decide for one side."""

    what: str
    """The places that they follow."""
    tokens: list[str]
    more: int
    """Tokens not shown."""
    share: str
    """Per cent of those places that one of the tokens follows."""


@dataclass(frozen=True)
class Decision:
    """The section's text."""

    why: str
    read: str
    """Where residuals are read, in a sentence."""
    sides: list[Side]
    """Of the margin; empty where there is none."""
    no_margin: bool
    """Whether the stage says that there is none."""
    few: str
    """The contrasts that were not scanned, with their numbers of pairs."""


def scanned(study: Study) -> pl.DataFrame:
    """The rows of the study's models that name a place, in the order of computation."""
    known = pl.col("model").is_in(study.models) & pl.col("contrast").is_not_null() & pl.col("layer").is_not_null()
    rows = study.sites.filter(known, pl.col("site").is_in(ORDER))
    at = pl.col("site").replace_strict({site: i for i, site in enumerate(ORDER)}, return_dtype=pl.Int64)
    return rows.sort("layer", at, maintain_order=True)


def hook(place: object) -> str:
    """TransformerLens' name of a `{layer, name}` of `site.json`; nothing where there is none."""
    if not isinstance(place, Mapping) or place.get("layer") is None:
        return ""
    return f"blocks.{place['layer']}.hook_{place.get('name')}"


def read_decision(study: Study) -> Decision | None:
    """The section's text, or None where the stage left nothing."""
    if not study.site and not study.sites.height:
        return None
    sides = _sides(study.site.get("margin"))
    return Decision(
        why=str(study.site.get("why") or ""),
        read=_where(hook(study.site.get("read")), hook(study.site.get("chosen"))),
        sides=sides,
        no_margin="margin" in study.site and not sides,
        few=_few(study),
    )


def _where(read: str, chosen: str) -> str:
    if not read:
        return ""
    if not chosen:
        return f"Residuals are read at {read}; no site was chosen."
    if read == chosen:
        return f"Residuals are read at {read}, the chosen site."
    return f"Residuals are read at {read}, as the config asks, and not at the chosen site {chosen}."


def _sides(margin: object) -> list[Side]:
    if not isinstance(margin, Mapping):
        return []
    return [_side(margin, key, what) for key, what in (("onset", "onsets"), ("other", "forks"))]


def _side(margin: Mapping[str, Any], key: str, what: str) -> Side:
    tokens = [visible_token(str(token or "")) for token in margin.get(key) or []]
    share = real(margin.get(f"{key}_share"))
    percent = number(None if share is None else 100 * share, 0)
    return Side(what, tokens[:TOKENS_SHOWN], max(0, len(tokens) - TOKENS_SHOWN), percent)


def _few(study: Study) -> str:
    pairs = study.site.get("pairs") or {}
    absent = [name for name in pairs if name not in study.sites["contrast"]]
    return ", ".join(f"{name} ({number(real(pairs[name]), 0)})" for name in absent)
