"""Reverse controls, baselines and nulls on the page: the numbers of the files, and nothing where there are none."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from interp.features.baselines import SCHEMA as BASELINES
from interp.features.nulls import SCHEMA as NULLS
from interp.report import render
from interp.report.figures.latents import KIND_COLOURS
from interp.report.inputs import read_study
from interp.report.latents import counts

from .conftest import CONFIG
from .pages import tables


@pytest.fixture
def copy(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("interp.report.page.FIGURES", ())
    return shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("report"))


def shown(copy: Path, head: str) -> list[list[list[str]]]:
    """The tables of the section whose first cell is this."""
    return [t for t in tables(render(copy, copy / "report", "Title", CONFIG), "latents") if t[0][0] == head]


def test_without_files_there_are_no_such_tables(copy):
    assert shown(copy, "Between") == shown(copy, "Behaviour") == []


def test_nulls_stand_beside_the_claims(copy):
    rows = [("base", "distilled", "the comparison itself", 700, 41, 12, 12.0, 0.97345, 5000)]
    rows.append(("distilled", "distilled", "every claim is false", 690, 3, 0, 12.0, 0.98, 5000))
    pl.DataFrame(rows, schema=NULLS, orient="row").write_parquet(copy / "crosscoder" / "nulls.parquet")
    (found,) = shown(copy, "Between")
    assert found[1:] == [
        ["base / distilled", "the comparison itself", "700", "41", "12", "0.973"],
        ["distilled / distilled", "every claim is false", "690", "3", "0", "0.980"],
    ]


def test_baselines_stand_beside_the_best_confirmed_latent(copy):
    rows = [("verification", "bag of markers", 0.6123, 400, 432), ("verification", "linear probe", 0.9876, 400, 432)]
    pl.DataFrame(rows, schema=BASELINES, orient="row").write_parquet(copy / "features" / "baselines.parquet")
    (found,) = shown(copy, "Behaviour")
    confirmed = pl.read_parquet(copy / "features" / "latents.parquet").filter("confirmed_verification")
    best = confirmed["auroc_confirm_verification"].max()
    assert found[1:] == [["verification", "0.612", "0.988", f"{best:.3f}", "432"]]


def test_kinds_are_counted_and_each_has_a_colour(copy):
    at = copy / "features" / "latents.parquet"
    kinds = ["behaviour latent", "token latent", "marker latent", "marker latent", "unspecific latent", "unconfirmed"]
    table = pl.read_parquet(at)
    table.with_columns(pl.Series("kind", [*kinds, *[""] * (len(table) - 6)])).write_parquet(at)
    found = counts(read_study(copy))
    assert {name: found[name] for name in ("behaviour", "token", "marker", "unspecific")} == {
        "behaviour": 1,
        "token": 1,
        "marker": 2,
        "unspecific": 1,
    }
    assert set(kinds) == set(KIND_COLOURS) and len(set(KIND_COLOURS.values())) == len(KIND_COLOURS)


def test_a_latents_page_has_its_reverse_controls(copy):
    latents = pl.read_parquet(copy / "features" / "latents.parquet").filter(pl.col("inside").is_not_nan())
    page = render(copy, copy / "report", "Title", CONFIG)
    row = latents.row(0, named=True)
    text = (page.parent / "dashboard" / f"latent_{row['latent']}.html").read_text()
    values = [f"{row[name]:.3f}" for name in ("inside", "at_own", "at_markers", "at_others", "at_places")]
    assert re.search(r".*?".join(map(re.escape, [*values, "0.88"])), text, re.DOTALL)
    other = next(p for p in (page.parent / "dashboard").glob("latent_*.html") if f"_{row['latent']}." not in p.name)
    alone = pl.read_parquet(copy / "features" / "latents.parquet").filter(latent=int(other.stem.split("_")[1]))
    assert ("On words alone" in other.read_text()) == (not alone["inside"].is_nan()[0])
