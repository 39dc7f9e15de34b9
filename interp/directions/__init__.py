"""Directions in the residual stream: made, compared, saved, read, exported. Knows tensors and files only.

A direction (`direction`) is a vector, its site and its provenance (`provenance`).

- A new way of making one is a function in `make` (or a file beside it) that returns a `Direction`, and one line here.
- A new random control is a function in `random`, and one line here.
- A new file format is one file with a reader (path, layer, site) -> {(layer, site): Direction}, and one line in
  `files._READERS`; names of layers in plain tensors are in `plain`.
"""

from __future__ import annotations

from interp.directions.direction import SITES, Direction
from interp.directions.files import load, load_all, save
from interp.directions.gguf import export_gguf
from interp.directions.make import difference_of_means, from_latents, probe
from interp.directions.provenance import Provenance
from interp.directions.random import random_in_covariance, random_like

__all__ = [
    "SITES",
    "Direction",
    "Provenance",
    "difference_of_means",
    "export_gguf",
    "from_latents",
    "load",
    "load_all",
    "probe",
    "random_in_covariance",
    "random_like",
    "save",
]
