"""The controls' columns of the table of effects, by hand."""

import numpy as np
import pytest

from interp.causal.effects import control_columns


def test_the_band_of_the_controls_holds_95_percent_of_the_draws():
    """Of 0, 1, ..., 1000 the percentiles 2.5 and 97.5 are 25 and 975."""
    columns = control_columns(2000.0, np.random.default_rng(0).permutation(np.arange(1001.0)).tolist(), "c")
    assert (columns["control_low"], columns["control_high"]) == pytest.approx((25.0, 975.0))
    assert columns["control_mean"] == pytest.approx(500.0)
    assert columns["p"] == pytest.approx(1 / 1002)
