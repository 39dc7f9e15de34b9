"""Edits of a run: frozen values, joined by `|`. A new edit is one file here and one line below.

Residual edits take a layer (and a site) and can be restricted with `.at(places)`; text edits act on what is written.
"""

from __future__ import annotations

from interp.causal.edits.affirm import affirm
from interp.causal.edits.along import Add, SetComponent
from interp.causal.edits.ban import ban
from interp.causal.edits.base import Both, Edit, NoEdit, ResidualEdit, Scene, describe, fired, started
from interp.causal.edits.echo import Echo, Redraw
from interp.causal.edits.insert import insert
from interp.causal.edits.latents import (
    ablate,
    add_decoder_difference,
    amplify,
    error_only,
    reconstruction_only,
    transplant,
)
from interp.causal.edits.patches import Recording, patch_from, record, zero
from interp.causal.edits.substitute import substitute

__all__ = [
    "Add",
    "Both",
    "Echo",
    "Edit",
    "NoEdit",
    "Recording",
    "Redraw",
    "ResidualEdit",
    "Scene",
    "SetComponent",
    "ablate",
    "add_decoder_difference",
    "affirm",
    "amplify",
    "ban",
    "describe",
    "error_only",
    "fired",
    "insert",
    "patch_from",
    "reconstruction_only",
    "record",
    "started",
    "substitute",
    "transplant",
    "zero",
]
