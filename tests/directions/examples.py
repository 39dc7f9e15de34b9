"""Directions with a full provenance, for tests."""

from pathlib import Path

import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from interp.directions import SITES, Direction, Provenance

FULL = Provenance(
    method="probe",
    model="distilled",
    model_hash="a" * 64,
    positions="before 13 to 8",
    rows_inside=30,
    rows_outside=70,
    texts_hash="b" * 64,
    crosscoder_hash="c" * 64,
    latents=(275, 54),
    norm=2.5,
    residual_norm=40.0,
    date="2025-01-01T00:00:00+00:00",
    version="0.1.0",
    parents=(Provenance("difference_of_means", rows_inside=3),),
    evidence={"dose": [[-0.1, 0.3], [0.1, 0.5]], "controls": {"random": None}, "Ünïcode": "→"},
)


def direction(values=(3.0, 4.0), layer=2, site="resid_post", provenance=FULL):
    return Direction(torch.tensor(values), layer, site, provenance)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
vectors = arrays.arrays(
    "float32", st.integers(1, 9), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
).filter(lambda row: row.any())
provenances = st.builds(
    Provenance,
    method=st.text(max_size=9),
    model=st.none() | st.text(max_size=9),
    rows_inside=st.none() | st.integers(0, 10**9),
    latents=st.lists(st.integers(0, 10**6), max_size=3).map(tuple),
    residual_norm=st.none() | st.floats(1e-3, 1e6),
    evidence=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
)
directions = st.builds(
    Direction, vectors.map(torch.from_numpy), st.integers(0, 200), st.sampled_from(SITES), provenances
)


def same_bits(a, b):
    """Equal with the signs of zeros."""
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def names(folder):
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in Path(folder).iterdir())
