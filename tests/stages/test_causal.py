"""What the stage computes itself: the steering direction, and what its progress bar counts to."""

import numpy as np
import pytest
import torch

from interp.names import REFLECTION, VERIFICATION
from interp.stages.causal import behaviour_direction
from interp.traces.labels import BEFORE, ELSEWHERE, INSIDE, MARKER, NONE
from tests.features.samples import labelled

PLACES = {
    REFLECTION: [INSIDE, ELSEWHERE, ELSEWHERE, ELSEWHERE, MARKER, NONE],
    VERIFICATION: [ELSEWHERE, INSIDE, ELSEWHERE, BEFORE, MARKER, NONE],
}
"""Two rows inside a behaviour, one outside both; then one just before a behaviour, a marker, and a prompt's."""
ROWS = [[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [100.0, 0.0], [0.0, 200.0], [0.0, 300.0]]
"""The edited model's; norms 5, 1, 2, 100, 200, 300."""


def data(folder, places=PLACES):
    x = torch.zeros(6, 3, 16)
    x[:, 1, :2] = torch.tensor(ROWS)
    x[:, 0], x[:, 2] = 7.0, -7.0  # the other models' residuals
    return labelled(folder, x, [6], label={b: np.array(p, dtype="<U9") for b, p in places.items()})


def test_the_direction_points_from_elsewhere_into_the_behaviour(tmp_path):
    """((3, 4) + (1, 0)) / 2 - (0, 2) = (2, 0), of the edited model alone; the mean norm is over all its rows."""
    direction, norm = behaviour_direction(data(tmp_path / "store"))
    assert direction is not None
    assert direction[:2].tolist() == [2.0, 0.0]
    assert torch.count_nonzero(direction[2:]) == 0
    assert norm == pytest.approx((5 + 1 + 2 + 100 + 200 + 300) / 6)


@pytest.mark.parametrize("place", [INSIDE, ELSEWHERE])
def test_without_rows_of_both_kinds_there_is_no_direction(tmp_path, place):
    gone = {b: [NONE if p == place else p for p in places] for b, places in PLACES.items()}
    direction, norm = behaviour_direction(data(tmp_path / "store", gone))
    assert direction is None
    assert norm > 0
