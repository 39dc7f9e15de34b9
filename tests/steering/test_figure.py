"""The figure of doses, from effects of hand-written runs."""

import polars as pl
import pytest
from matplotlib.patches import Rectangle

from interp.causal.effects import table
from interp.names import OUTCOMES
from interp.report.palette import REGION, house_style, save
from interp.steering.figure import Curve, doses_figure
from interp.steering.response import all_effects, failed
from tests.steering.test_response import COHERENT, runs_of


@pytest.fixture(scope="module")
def effects():
    runs = runs_of(lambda d: 0.5 + d, controls=25)
    loud = {"distilled": {"add +0.2 everywhere": 1.7}}
    return table(all_effects(runs, 20, COHERENT, failed(runs, loud, 1.5), 1.5, 100, 0))


def test_it_has_every_outcome_the_dose_below_and_the_usable_range_as_a_band(effects, tmp_path):
    with house_style():
        drawing = doses_figure(effects, "distilled", [Curve("everywhere", (-0.2, 0.1))])
        save(drawing, tmp_path)
    panels = drawing.figure.axes
    assert len(panels) == len(OUTCOMES)
    assert {axes.get_xlabel() for axes in panels} == {"Dose (× mean residual norm)"}
    for axes in panels:
        green = [p for p in axes.patches if isinstance(p, Rectangle) and _is(p, REGION)]
        assert [(p.get_x(), p.get_x() + p.get_width()) for p in green] == [pytest.approx((-0.2, 0.1))]
    assert {path.name for path in tmp_path.iterdir()} == {"doses_distilled.svg", "doses_distilled.png"}
    assert "−0.2 to +0.1" in drawing.caption


def test_accuracy_is_drawn_in_points_hollow_where_a_check_failed(effects):
    drawing = doses_figure(effects, "distilled", [Curve("everywhere", (-0.2, 0.1))])
    axes = drawing.figure.axes[OUTCOMES.index("accuracy")]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [tuple(line.get_xydata()[0]) for line in points] == [
        pytest.approx((d, 100 * d)) for d in (-0.2, -0.1, 0.1, 0.2)
    ]
    assert [line.get_markerfacecolor() == "white" for line in points] == [False, False, False, True]


def test_a_model_without_controls_has_no_bars(effects):
    alone = effects.filter(pl.col("family") == "steering").with_columns(
        pl.lit(None, pl.Float64).alias("control_low"), pl.lit(None, pl.Float64).alias("control_high")
    )
    drawing = doses_figure(alone, "distilled", [Curve("everywhere", (0.0, 0.0))])
    labels = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert not any("random" in label for label in labels)


def _is(patch, colour):
    from matplotlib.colors import to_rgba

    return patch.get_facecolor() == to_rgba(colour)
