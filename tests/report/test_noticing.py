"""Does it notice its errors: the numbers of figure and table are those of the file, of that model and measure."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from matplotlib.colors import to_hex

from interp.features.noticing import NOTICES, summarise
from interp.features.noticing import SCHEMA as INJECTED
from interp.report import render
from interp.report.figures.noticing import noticing
from interp.report.inputs import read_study
from interp.report.noticing import MEASURES, read_noticed
from interp.report.palette import MODEL_COLOURS, MODEL_LABELS, MODEL_SHAPES, house_style
from interp.report.schemas import NOTICED
from interp.statistics import bootstraps

from .conftest import CONFIG
from .fake_files import MODELS
from .fake_sites import TEXTS
from .pages import Page, tables

HEADINGS = {
    "checks_wrong": "Checks after a wrong step, %",
    "checks_right": "Checks after a right step, %",
    "repaired": "Mends the wrong step %",
    "correct_wrong": "Right answer after a wrong step, %",
    "correct_right": "Right answer after a right step, %",
    "variation": "Next token differs %",
}
PANELS = {
    "Begins to check (%)": ("checks_wrong", "checks_right"),
    "Mends the wrong step (%)": ("repaired",),
    "Right answer (%)": ("correct_wrong", "correct_right"),
}


@pytest.fixture
def copy(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("interp.report.page.FIGURES", (noticing,))
    return shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("report"))


def made_up(*rows: tuple, models=MODELS):
    """What is read of a study, with (model, measure, n, estimate, low, high) of each row."""
    keys = ("model", "measure", "n", "estimate", "low", "high")
    table = pl.DataFrame(
        [dict.fromkeys(NOTICED) | dict(zip(keys, row, strict=True)) for row in rows], schema=dict(NOTICED)
    )
    return SimpleNamespace(models=models, noticed=table)


def draw(study):
    with house_style():
        return noticing(study)


def from_file(study: Path) -> dict[tuple[str, str], dict]:
    rows = pl.read_parquet(study / "sites" / "noticed.parquet").iter_rows(named=True)
    return {(row["model"], row["measure"]): row for row in rows}


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def test_the_measures_and_columns_are_those_that_are_written(study: Path):
    assert tuple(NOTICES) == MEASURES
    pair = dict.fromkeys(INJECTED) | {"model": "base"} | dict.fromkeys(NOTICES, 1)
    written = summarise(pl.DataFrame([pair, pair]), bootstraps(10, 0))
    made = pl.read_parquet(study / "sites" / "noticed.parquet")
    assert written.columns == list(NOTICED) == made.columns
    assert dict(made.select("measure", "says").unique().rows()) == NOTICES


def test_every_cell_of_the_table_is_the_files_number_in_percent(study: Path, report: Path):
    found = from_file(study)
    ((heading, *rows),) = tables(report / "index.html", "noticing")
    assert heading == ["Model", "Texts", *HEADINGS.values()]
    assert [row[0] for row in rows] == [MODEL_LABELS[model] for model in MODELS]
    for model, (_, texts, *cells) in zip(MODELS, rows, strict=True):
        assert texts == str(TEXTS[model])
        for measure, cell in zip(HEADINGS, cells, strict=True):
            row = found[model, measure]
            value, low, high = (percent(row[key]) for key in ("estimate", "low", "high"))
            assert cell == f"{value}[{low}, {high}]", (model, measure)


def test_the_lead_says_how_many_texts_there_are(report: Path):
    assert "(508 to 512 texts each)" in Page(report / "index.html").text
    alike = read_noticed(made_up(("base", "repaired", 1024, 0.5, 0.4, 0.6), ("control", "repaired", 1024, 0.1, 0, 0.2)))
    assert alike is not None and alike.texts == "1 024"


def test_each_bar_is_of_its_model_and_measure_in_percent(study: Path):
    """The wrong step's is left of the right step's, and tinted."""
    found, drawing = from_file(study), draw(read_study(study))
    assert [axes.get_title(loc="left") for axes in drawing.figure.axes] == list(PANELS)
    for axes, pair in zip(drawing.figure.axes, PANELS.values(), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == [MODEL_LABELS[m] for m in MODELS]
        places = [(model, measure) for model in MODELS for measure in pair]
        points = sorted((box for box in axes.containers if hasattr(box, "has_yerr")), key=lambda p: p[0].get_xdata()[0])
        bars = sorted(axes.patches, key=lambda patch: patch.get_x())
        for (model, measure), point, bar in zip(places, points, bars, strict=True):
            (mark, _, (line,)), row = point, found[model, measure]
            assert round(mark.get_xdata()[0]) == MODELS.index(model)
            assert mark.get_ydata()[0] == bar.get_height() == pytest.approx(100 * row["estimate"])
            assert [y for _, y in line.get_segments()[0]] == pytest.approx([100 * row["low"], 100 * row["high"]])
            shown = bar.get_facecolor() if bar.get_fill() else bar.get_edgecolor()
            assert to_hex(mark.get_color()).upper() == to_hex(shown).upper() == MODEL_COLOURS[model]
            assert mark.get_marker() == MODEL_SHAPES[model]
            assert bar.get_fill() == (measure != pair[-1] or len(pair) == 1), "the wrong step is tinted"
    names = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert names == ["after the wrong step", "after the right step"]
    tinted, outlined = drawing.figure.legends[0].get_patches()
    assert tinted.get_facecolor() != outlined.get_facecolor() == (1, 1, 1, 1)


def test_the_description_names_every_drawn_number(study: Path):
    found, drawing = from_file(study), draw(read_study(study))
    for pair in PANELS.values():
        for measure in pair:
            listed = ", ".join(f"{MODEL_LABELS[m]} {percent(found[m, measure]['estimate'])}" for m in MODELS)
            assert f"{HEADINGS[measure].rstrip(', %')}: {listed}" in drawing.alt


def test_what_was_not_measured_is_said_and_not_drawn():
    study = made_up(
        ("base", "checks_wrong", None, 0.25, None, None),
        ("base", "checks_right", None, None, None, None),
        ("base", "repaired", None, float("nan"), 0.1, 0.2),
        ("distilled", "unheard of", 9, 0.5, 0.4, 0.6),
        (None, None, None, None, None, None),
    )
    found = read_noticed(study)
    assert found is not None and found.texts == ""
    ((name, n, cells),) = [(row.name, row.n, row.cells) for row in found.rows]
    assert (name, n) == ("base", None)
    assert [(cell.value, cell.interval, cell.refused) for cell in cells] == [
        ("25.0", "", ""),
        *[("–", "", "not measured")] * 5,
    ]
    drawing = draw(study)
    assert [len(axes.patches) for axes in drawing.figure.axes] == [1, 0, 0]
    assert "Checks after a right step: base –" in drawing.alt


def test_a_study_without_the_file_has_neither_section_nor_figure(copy: Path):
    (copy / "sites" / "noticed.parquet").unlink()
    page = Page(render(copy, copy / "out", "Without", CONFIG))
    assert "noticing" not in {attrs.get("id") for _, attrs in page.tags} and "#noticing" not in page.links()
    assert not list((copy / "out" / "figures").iterdir())
    assert "sites/noticed.parquet is absent." in page.text
    assert "#sites" in page.links(), "the other half of the stage stays"


def test_a_file_in_which_no_error_could_be_injected_is_as_none(copy: Path):
    pl.DataFrame([]).write_parquet(copy / "sites" / "noticed.parquet")
    assert "#noticing" not in Page(render(copy, copy / "out", "Empty", CONFIG)).links()


def test_models_that_the_study_lacks_are_not_shown():
    study = made_up(("control", "repaired", 8, 0.1, 0, 0.2), ("base", "repaired", 8, 0.3, 0.2, 0.4), models=MODELS[:3])
    found = read_noticed(study)
    assert found is not None and [row.name for row in found.rows] == ["base"]
