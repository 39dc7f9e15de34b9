"""The distance that the table of models prints, by hand."""

import pytest
import torch

from interp.stages.checkpoints import _distance


def linear(rows):
    weight = torch.tensor(rows)
    model = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    model.load_state_dict({"weight": weight})
    return model


def test_the_distance_is_relative_to_the_base():
    """From (3, 4) of norm 5 to (3, 16): 12 / 5; back: 12 / the norm of (3, 16)."""
    base, other = linear([[3.0, 4.0]]), linear([[3.0, 16.0]])
    assert _distance(base, other) == pytest.approx(12 / 5)
    assert _distance(other, base) == pytest.approx(12 / 265**0.5)
    assert _distance(base, base) == 0.0


def test_weights_of_another_shape_do_not_count():
    """Such as the rows that a resized vocabulary adds."""
    base = torch.nn.ModuleDict({"same": linear([[3.0, 4.0]]), "embedding": linear([[1.0], [1.0]])})
    other = torch.nn.ModuleDict({"same": linear([[3.0, 5.0]]), "embedding": linear([[9.0], [9.0], [9.0]])})
    assert _distance(base, other) == pytest.approx(1 / 5)
