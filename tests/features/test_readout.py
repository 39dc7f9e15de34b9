"""What each model reads by itself: codes of a crosscoder whose models hold known directions."""

from dataclasses import replace

import pytest
import torch
from small import code64, small_crosscoder

from interp.features.readout import SCHEMA, swap_readout
from tests.features.test_attribution import decided

NAMES = ("base", "distilled", "zero_rl")


def test_each_model_is_read_with_its_own_activations_in_every_slot():
    decision = decided()
    cc = small_crosscoder(d_model=decision.positive.h.shape[1], threshold=0.2)
    n = len(decision.positive.h)
    sides = {
        name: replace(getattr(decision, name), x=torch.randn(n, 3, 16, generator=torch.Generator().manual_seed(seed)))
        for seed, name in enumerate(("positive", "negative"))
    }
    decision = replace(decision, crosscoder=cc, **sides)
    got = swap_readout(decision, [5, 2], NAMES)
    assert got.schema == SCHEMA and got["latent"].to_list() == [5, 5, 5, 2, 2, 2]
    assert got["model"].to_list() == [*NAMES, *NAMES]
    for row in got.iter_rows(named=True):
        slot = NAMES.index(row["model"])
        for name, side in sides.items():
            f = code64(cc, side.x[:, [slot] * 3])[:, row["latent"]]
            assert row[f"fires_{name}"] == pytest.approx(float((f > 0).double().mean()))
            assert row[f"mean_{name}"] == pytest.approx(float(f.mean()), abs=1e-4)
    assert got["fires_positive"].n_unique() > 2


def test_sides_without_the_models_activations_are_refused():
    decision = decided()
    bare = replace(decision, positive=replace(decision.positive, x=None))
    with pytest.raises(ValueError, match="hold no activations"):
        swap_readout(bare, [1], NAMES)
