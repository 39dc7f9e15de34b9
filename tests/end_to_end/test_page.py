"""The page of a real study: what it draws and lists is what the study's own tables hold."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from interp.report.effects import edited
from interp.report.figures.steering import SHAPE, STEERED, steering
from interp.report.inputs import read_study
from interp.report.palette import house_style
from interp.summary import _effects
from tests.report.fake_study import make_study
from tests.report.pages import Page, pages

TABLES = (
    "checkpoints/training.parquet",
    "traces/traces.parquet",
    "traces/summary.parquet",
    "sites/noticed.parquet",
    "sites/sites.parquet",
    "features/latents.parquet",
    "features/examples.parquet",
    "causal/effects.parquet",
)


@pytest.fixture(scope="session")
def page(study: Path) -> Page:
    return Page(study / "report" / "index.html")


@pytest.fixture(scope="session")
def effects(study: Path) -> pl.DataFrame:
    return pl.read_parquet(study / "causal" / "effects.parquet")


def test_every_figure_that_the_tables_allow_is_drawn(study: Path, page: Page, effects: pl.DataFrame) -> None:
    always = {"reading", "models", "training", "crosscoder", "specificity", "latent_scaling", "cosines", "reweighting"}
    expected = always | {"behaviours", "forest", "forest_latents", "steering"}
    restored = effects.filter((pl.col("outcome") == "restored") & pl.col("estimate").is_finite())
    expected |= {"patching", "heads"} if len(restored) else set()
    expected |= {"noticing"} | ({"sites"} if len(pl.read_parquet(study / "sites" / "sites.parquet")) else set())
    deciding = json.loads((study / "features" / "circuit.json").read_text())["deciding"]
    expected |= {"circuit"} if deciding.get("controls") else set()
    assert {Path(attrs["src"] or "").stem for tag, attrs in page.tags if tag == "img"} == expected
    if not len(restored):
        tried = len(effects.filter(pl.col("family") == "patching")) > 0
        assert ("No place was patched" in page.text) == (not tried)
        assert ("restore no share that can be given" in page.text) == tried


def test_all_doses_are_one_dose_response(study: Path, effects: pl.DataFrame) -> None:
    with house_style():
        drawing = steering(read_study(study))
    assert drawing is not None
    steered = edited(effects).filter((pl.col("family") == "steering") & pl.col("estimate").is_finite())
    outcomes = [o for o in STEERED if o in steered["outcome"]]
    panels = [axes for axes in drawing.figure.axes if axes.get_title(loc="left")]
    assert len(panels) == len(outcomes)
    for axes, outcome in zip(panels, outcomes, strict=True):
        doses = sorted(steered.filter(pl.col("outcome") == outcome)["dose"])
        points = [line for line in axes.lines if len(line.get_xdata()) == 1 and line.get_marker() == SHAPE]  # type: ignore[arg-type]
        assert sorted({line.get_xdata()[0] for line in points}) == doses  # type: ignore[index]


def test_a_latent_is_listed_where_its_contexts_were_kept(study: Path, page: Page) -> None:
    kept = set(pl.read_parquet(study / "features" / "examples.parquet")["latent"])
    assert {int(path.stem.split("_")[1]) for path in (study / "report" / "dashboard").iterdir()} == kept
    listed = [int(href.split("_")[1].split(".")[0]) for href in page.links() if href.startswith("dashboard/")]
    assert set(listed) == kept


def test_no_page_of_a_latent_is_empty_or_has_a_column_that_cannot_be_filled(study: Path) -> None:
    for latent in pages(study / "report" / "dashboard"):
        assert "No contexts were kept" not in latent.text
        columns = [attrs.get("class") for tag, attrs in latent.tags if tag == "section"]
        assert columns == ["m-base", "m-distilled", "m-zero_rl"]


def test_every_effect_is_in_a_table_with_the_numbers_of_the_file(page: Page, effects: pl.DataFrame) -> None:
    for arm in effects["arm"].unique():
        assert arm in page.text
    for row in effects.filter((pl.col("outcome") == "accuracy") & pl.col("estimate").is_finite()).iter_rows(named=True):
        shown = f"{100 * row['estimate'] + 0.0:+.1f}".replace("-", "−")
        assert shown.replace("+0.0", "0.0").replace("−0.0", "0.0") in page.text


def test_the_numbers_are_of_the_studys_own_temperature(page: Page) -> None:
    assert "sampled at temperature 1." in page.text
    assert "T = 1" not in page.text


def test_the_console_prints_what_the_file_holds(effects: pl.DataFrame) -> None:
    assert _effects(effects).row_count == len(edited(effects).filter(pl.col("outcome") == "accuracy"))


def test_every_arm_of_the_verdict_is_a_line_with_its_checks(study: Path, page: Page) -> None:
    for name, arm in json.loads((study / "causal" / "verdict.json").read_text())["arms"].items():
        assert name in page.text
        for said in [*arm["failed"], *(check["what"] for check in arm["checks"])]:
            assert said in page.text


def test_provenance_names_every_stage_its_rows_and_its_seed(study: Path, page: Page) -> None:
    for manifest in study.glob("*/manifest.json"):
        about = json.loads(manifest.read_text())
        if about["stage"] != "report":
            assert about["config_hash"][:12] in page.text
            assert "device" not in about or about["device"] in page.text


def test_the_reports_made_up_studies_hold_nothing_that_a_real_one_does_not(study: Path, tmp_path: Path) -> None:
    """Columns, keys and names: a page that is tested on made-up files is tested on what the stages write."""
    fake = make_study(tmp_path / "fake")
    for name in TABLES:
        made_up, real = pl.read_parquet(fake / name), pl.read_parquet(study / name)
        assert set(made_up.columns) <= set(real.columns), name
    for name in ("causal/verdict.json", "crosscoder/evaluation.json", "checkpoints/models.json"):
        assert json.loads((fake / name).read_text()).keys() <= json.loads((study / name).read_text()).keys(), name
    made_up, real = (
        next(iter(json.loads((folder / "causal" / "verdict.json").read_text())["arms"].values()))
        for folder in (fake, study)
    )
    assert made_up.keys() == real.keys()
    assert made_up["checks"][0].keys() == real["checks"][0].keys()
    made_up, real = (pl.read_parquet(folder / "causal" / "effects.parquet") for folder in (fake, study))
    places = ["family", "site", "outcome"]
    shared = real["family"].unique()
    here = made_up.filter(pl.col("family").is_in(shared.implode()))
    assert set(here.select(places).unique().rows()) == set(real.select(places).unique().rows())
    # Latents may have none confirmed in a study this small; the arms' names are then those of the dictionary alone.
    same = [f for f in shared if f not in ("latents", "steering", "patching")]
    for family in same:
        assert set(made_up.filter(pl.col("family") == family)["arm"]) == set(
            real.filter(pl.col("family") == family)["arm"]
        )
    assert "add +0.1 of the behaviour's direction" in set(made_up["arm"]) & set(real["arm"])
    manifests = [
        json.loads((folder / "traces" / "manifest.json").read_text()).keys() - {"device"} for folder in (fake, study)
    ]
    assert manifests[0] <= manifests[1]
