"""What is drawn is what the tables hold: panels, points, and a sentence where there is nothing to draw."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from interp.causal.arms import REMOVALS
from interp.causal.effects import SCHEMA
from interp.causal.verdict import VERDICTS
from interp.names import COMPARED
from interp.report import render
from interp.report.definitions import DEFINITIONS
from interp.report.effects import FAMILIES, edited
from interp.report.figures.forest import forest, forest_latents
from interp.report.figures.heads import heads
from interp.report.figures.patching import patching
from interp.report.figures.reading import reading
from interp.report.figures.steering import STEERED, steering
from interp.report.inputs import read_study
from interp.report.palette import Drawing, house_style, save, sheet
from interp.report.schemas import EFFECTS
from interp.report.verdict import SENTENCES

from .conftest import CONFIG
from .fake_effects import ARMS, BAN, CLAIMS, DOSES, FEWER, HEADS, REFUSED, SITES, refuse_patching
from .fake_files import write_table
from .pages import Page, pages


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("report"))


def drawn(draw, study: Path):
    with house_style():
        return draw(read_study(study))


def points(axes) -> set[tuple[float, float]]:
    """Where an axes has marks of one point."""
    lines = [line for line in axes.lines if len(line.get_xdata()) == 1 and line.get_marker() not in ("None", "", None)]
    return {(round(float(line.get_xdata()[0]), 6), round(float(line.get_ydata()[0]), 6)) for line in lines}


def test_a_dose_response_has_a_panel_for_each_outcome_and_every_dose_in_it(study: Path):
    """The arm's name holds its dose, which is no reason for a panel of its own."""
    drawing = drawn(steering, study)
    panels = [axes for axes in drawing.figure.axes if axes.get_title(loc="left")]
    assert len(panels) == len(STEERED)
    rows = pl.read_parquet(study / "causal" / "effects.parquet").filter(
        pl.col("family") == "steering", pl.col("decoding") == "sampled"
    )
    scale = {"accuracy": 100, "marker_density": 1, "verification_rate": 100}
    for axes, outcome in zip(panels, STEERED, strict=True):
        part = rows.filter(pl.col("outcome") == outcome)
        wanted = {(row["dose"], round(scale[outcome] * row["estimate"], 6)) for row in part.iter_rows(named=True)}
        assert points(axes) == wanted
        assert len(wanted) == len(DOSES)
        assert len(axes.patches) == len(DOSES), "a bar of controls beside each dose"
        for bar, row in zip(
            sorted(axes.patches, key=lambda p: p.get_x()), part.sort("dose").iter_rows(named=True), strict=True
        ):
            assert bar.get_x() + bar.get_width() / 2 == pytest.approx(row["dose"])
            assert bar.get_y() == pytest.approx(scale[outcome] * row["control_low"])
            assert bar.get_width() > 0.005, "wide enough to be seen"


def test_patching_draws_every_site_and_layer_of_both_arms(study: Path):
    drawing = drawn(patching, study)
    assert len(drawing.figure.axes) == 2
    for axes in drawing.figure.axes:
        assert len(points(axes)) == 3 * len(SITES)


def test_heads_are_a_map_of_layer_by_head_and_framed_where_they_leave_the_controls(study: Path):
    rows = pl.read_parquet(study / "causal" / "effects.parquet").filter(
        pl.col("head").is_not_null(), pl.col("outcome") == "restored"
    )
    maps = [axes for axes in drawn(heads, study).figure.axes if axes.get_xlabel() == "Head"]
    assert [axes.get_title(loc="left") for axes in maps] == ["noising, distilled", "denoising, distilled"]
    for axes, arm in zip(maps, ("noising", "denoising"), strict=True):
        mine = rows.filter(pl.col("arm") == arm)
        shown = axes.images[0].get_array()
        assert shown.shape == (3, HEADS)
        for row in mine.iter_rows(named=True):
            assert shown[row["layer"], row["head"]] == pytest.approx(row["estimate"])
        apart = mine.filter((pl.col("low") > pl.col("control_high")) | (pl.col("high") < pl.col("control_low")))
        framed = {(round(p.get_y() + 0.47), round(p.get_x() + 0.47)) for p in axes.patches}
        assert framed == set(apart.select("layer", "head").rows()) and 0 < len(framed) < 3 * HEADS


def test_patches_that_restore_nothing_are_a_sentence_and_not_denied(copy: Path):
    rows = pl.read_parquet(copy / "causal" / "effects.parquet").to_dicts()
    write_table(copy / "causal" / "effects.parquet", refuse_patching(rows))
    assert drawn(patching, copy) is None
    text = Page(render(copy, copy / "out", "Refused", CONFIG)).text
    assert "No place was patched" not in text
    assert "42 patches of 128 pairs restore no share that can be given" in text
    assert REFUSED in text


def test_where_nothing_was_patched_the_page_says_so(copy: Path):
    effects = copy / "causal" / "effects.parquet"
    pl.read_parquet(effects).filter(pl.col("family") != "patching").write_parquet(effects)
    assert "No place was patched." in Page(render(copy, copy / "out", "None", CONFIG)).text


def labels(axes) -> list[str]:
    return [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]


NAMES = [f"{name}: fewer checks are begun" if name == BAN else name for name in ARMS]
"""The arms as figures name them: one that failed is named by what it did."""


def test_the_reading_draws_own_loss_the_gains_loss_and_the_controls(study: Path):
    drawing = drawn(reading, study)
    (axes,) = drawing.figure.axes
    assert labels(axes) == NAMES
    at = points(axes)
    own, net, control = ({y: x for x, y in at if round(y % 1, 2) == shift} for shift in (0.88, 0.1, 0.28))
    assert [own[y] for y in sorted(own)] == pytest.approx([1.0, 9.1, 21.2, 3.6])
    assert [net[y] for y in sorted(net)] == pytest.approx([1.2, 9.3, 21.4, 3.8])
    assert [control[y] for y in sorted(control)] == pytest.approx([0.5, 0.5, 1.1])
    filled = {round(line.get_ydata()[0]): line.get_mfc() for line in axes.lines if line.get_marker() == "o"}
    assert [colour == "white" for _, colour in sorted(filled.items())] == [name == BAN for name in ARMS]
    assert "incoherent, or failed a check" in {text.get_text() for text in drawing.figure.legends[0].get_texts()}
    assert CLAIMS == REMOVALS


def test_a_forest_has_a_line_for_each_arm_of_the_edited_models_sampled_text(study: Path):
    drawing = drawn(forest, study)
    headings = {FAMILIES[family][0] for family in ("style", "function", "both")}
    assert [label for label in labels(drawing.figure.axes[0]) if label not in headings] == NAMES
    rows = edited(read_study(study).effects).filter(pl.col("outcome") == "accuracy")
    here = rows.filter(pl.col("arm").is_in(ARMS))
    drawn_at = {x for x, _ in points(drawing.figure.axes[0])}
    assert drawn_at == {round(100 * x, 6) for x in here["estimate"]}
    hollow = [line for line in drawing.figure.axes[0].lines if line.get_marker() == "D" and line.get_mfc() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == pytest.approx(
        [100 * x for x in here.filter(pl.col("arm") == BAN)["estimate"]]
    )
    assert len(labels(drawn(forest_latents, study).figure.axes[0])) == 6


def test_every_arm_is_one_line_of_the_verdict_with_its_checks(report: Path):
    text = Page(report / "index.html").text
    for name in ARMS:
        assert name in text
    assert FEWER in text and "✗ steps worked again per text: 0.500 → 0.310" in text
    assert "✓ markers per 100 tokens: 5.10 → 0" in text
    assert "87 % of what sets the distilled model’s words apart" in text
    assert "aha (z 5.2, 12 %)" in text
    assert "Gain over the control\n+24.0" in text


def test_the_tables_columns_are_those_that_are_written(study: Path):
    assert set(EFFECTS) == set(SCHEMA) == set(pl.read_parquet(study / "causal" / "effects.parquet").columns)


def test_no_dashboard_is_empty_and_none_shows_a_model_that_was_not_read(study: Path, report: Path):
    shown = [page for page in pages(report) if page.path.parent.name == "dashboard"]
    kept = set(pl.read_parquet(study / "features" / "examples.parquet")["latent"])
    assert {int(page.path.stem.split("_")[1]) for page in shown} <= kept
    for page in shown:
        assert "No contexts were kept" not in page.text
        columns = [attrs.get("class") for tag, attrs in page.tags if tag == "section"]
        assert columns == [f"m-{model}" for model in COMPARED]


def test_latents_without_contexts_are_not_listed(copy: Path):
    examples = copy / "features" / "examples.parquet"
    pl.read_parquet(examples).filter(pl.col("latent") < 10).write_parquet(examples)
    page = Page(render(copy, copy / "out", "Few", CONFIG))
    listed = [int(href.split("_")[1].split(".")[0]) for href in page.links() if href.startswith("dashboard/")]
    assert sorted(listed) == list(range(10))
    assert sorted(path.name for path in (copy / "out" / "dashboard").iterdir()) == [
        f"latent_{i}.html" for i in range(10)
    ]


def test_the_crosscoders_table_has_no_model_that_it_was_not_trained_on(report: Path):
    text = Page(report / "index.html").text
    assert all(f"FVE, {label}" in text for label in ("base", "distilled", "zero-RL"))
    assert "FVE, control" not in text
    assert "Loss recovered, control" not in text


def test_every_verdict_has_its_sentence_and_its_definition():
    assert set(SENTENCES) == set(VERDICTS)
    assert set(VERDICTS) <= set(DEFINITIONS["Verdict"])


def test_no_gain_is_also_said_truly_of_a_model_that_is_worse():
    assert "zero" not in SENTENCES["no gain"]


def test_a_figure_is_saved_to_a_folder_that_is_not_there_yet_with_the_same_bytes_each_time(tmp_path: Path):
    for folder in ("a/b", "c"):
        with house_style():
            figure, (axes,) = sheet(1, 1, 3, 2)
            axes.plot([0, 1], [1, 0])
            save(Drawing("line", figure, "a line", "It falls."), tmp_path / folder)
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("a/b", "c"))
    assert one == other and {*one} == {"line.svg", "line.png"}
