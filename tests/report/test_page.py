"""What the report writes, from a study with everything in it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl
import pytest

from interp.report import render
from interp.report.effects import apart, families
from interp.report.inputs import read_study
from interp.report.latents import LISTED, listed
from interp.report.numbers import Estimate
from interp.report.reliability import Reliability
from interp.report.schemas import EFFECTS
from interp.report.verdict import read_verdict

from .conftest import CONFIG
from .fake_files import HOSTILE
from .fake_study import make_study
from .pages import Page, pages, tables

SECTIONS = (
    "verdict",
    "models",
    "noticing",
    "traces",
    "training",
    "sites",
    "crosscoder",
    "latents",
    "causal",
    "words",
    "limits",
    "provenance",
)


def test_page_has_every_section_and_the_numbers(report: Path):
    page = Page(report / "index.html")
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section" and "id" in attrs] == list(SECTIONS)
    for expected in (
        "functional",
        "The verdict agrees.",
        "+25.0",
        "[+21.9, +28.1]",
        "nothing to divide by: the event never occurred",
        "2.9.0",
        "sampled at temperature 0.7",
    ):
        assert expected in page.text
    assert page.text.index("The verdict agrees.") < page.text.index("zero-RL"), "the verdict comes first"


def test_every_figure_is_drawn_twice_and_described(report: Path):
    page = Page(report / "index.html")
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 16
    assert all(len(image["alt"] or "") > 30 for image in images)
    drawn = {path.name for path in (report / "figures").iterdir()}
    assert drawn == {f"{Path(image['src'] or '').stem}.{kind}" for image in images for kind in ("svg", "png")}


@pytest.mark.parametrize("which", ["report", "hostile_report"])
def test_nothing_reaches_for_the_network(which: str, request: pytest.FixtureRequest):
    report: Path = request.getfixturevalue(which)
    for page in pages(report):
        assert not [link for link in page.links() if urlsplit(link).scheme or link.startswith("//")]
        assert not [attrs for tag, attrs in page.tags if tag == "script" and "src" in attrs]
        assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for figure in (report / "figures").glob("*.svg"):
        drawn = Page(figure)
        assert all((attrs.get("xlink:href") or "#").startswith(("#", "data:image/")) for _, attrs in drawn.tags)


def test_every_link_inside_resolves(report: Path):
    for page in pages(report):
        for link in page.links():
            parts = urlsplit(link)
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            assert target.is_file(), f"{page.path.name}: {link}"
            if parts.fragment:
                assert parts.fragment in {attrs.get("id") for _, attrs in Page(target).tags}


def test_hostile_text_stays_text(hostile_report: Path):
    for page in pages(hostile_report):
        assert [tag for tag, _ in page.tags].count("script") == 1
        assert all(tag != "svg" for tag, _ in page.tags)
        assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    latent = Page(next((hostile_report / "dashboard").glob("*.html")))
    for shown in ("onerror=", "⟨U+202E⟩", "⟨U+200B⟩", "⟨U+0000⟩", "∅", "↵", "⇥", "{{·7·*·7·}}", "&lt;b&gt;"):
        assert shown in latent.text
    index = Page(hostile_report / "index.html")
    assert HOSTILE[0] in index.text
    assert "\u202e" not in index.text + latent.text


def test_the_same_inputs_give_the_same_bytes(study: Path, report: Path, tmp_path: Path):
    again = render(study, tmp_path, "Fake study", CONFIG).parent
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [name for name in files if (report / name).read_bytes() != (again / name).read_bytes()] == []


def test_verdict_is_copied_unchanged(study: Path, report: Path):
    assert (report / "verdict.json").read_bytes() == (study / "causal" / "verdict.json").read_bytes()


def test_many_latents_are_listed_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("interp.report.page.FIGURES", ())
    study = make_study(tmp_path, n_latents=800)
    out = render(study, tmp_path / "report", "Many", CONFIG)
    assert out.stat().st_size < 3_000_000
    listed = {int(path.stem.split("_")[1]) for path in (out.parent / "dashboard").iterdir()}
    assert len(listed) == LISTED
    latents = pl.read_parquet(study / "features" / "latents.parquet")
    confirmed = latents.filter(pl.col("confirmed_reflection") | pl.col("confirmed_verification"))["latent"]
    assert set(confirmed) <= listed
    order = [int(href.split("_")[1].split(".")[0]) for href in Page(out).links() if href.startswith("dashboard/")]
    assert set(order[: len(confirmed)]) == set(confirmed)


def test_the_verdicts_shares_are_printed_in_points(study: Path):
    """Bound .05, losses of the arms and of their controls are shares; the mediated fraction in percent."""
    shown = read_verdict(read_study(study))
    assert shown.bound == "5.0"
    assert shown.gain.value == "+25.0"
    assert (shown.fraction.value, shown.fraction.interval) == ("2", "[−6, 10]")
    assert shown.over_control is not None and shown.over_control.value == "+24.0"
    assert shown.coverage == "87"
    arms = shown.arms
    assert [(arm.own.value, arm.net.value, arm.beyond.value) for arm in arms] == [
        ("+1.0", "+1.2", "+0.5"),
        ("+9.1", "+9.3", "+8.6"),
        ("+21.2", "+21.4", "+20.7"),
        ("+3.6", "+3.8", "–"),
    ]
    assert [(arm.control, arm.reading, arm.needed, arm.read, len(arm.failed)) for arm in arms] == [
        ("+0.5", "no drop", "", True, 0),
        ("+0.5", "drop", "", False, 1),
        ("+1.1", "drop", "", True, 0),
        ("–", "undetermined", "2 900", True, 0),
    ]
    assert [bool(arm.why) for arm in arms] == [False, False, False, True]


def effect(**changes: object) -> dict:
    row = dict.fromkeys(EFFECTS) | {"family": "style", "arm": "ban", "outcome": "accuracy", "untouched": 0.68}
    row |= {"estimate": -0.1, "low": -0.2, "high": -0.05, "control_mean": 0.01, "control_low": -0.02}
    return row | {"control_high": 0.03, "n_controls": 20, "p": 0.048, "p_holm": 0.19, "n_problems": 1024} | changes


def test_a_row_of_effects_has_each_number_in_its_column_and_unit(study: Path):
    rows = [effect(), effect(outcome="restored", estimate=0.25, low=0.1, high=0.4), effect(outcome="length")]
    (family,) = families(replace(read_study(study), effects=pl.DataFrame(rows, schema=dict(EFFECTS))))
    first, restored, length = family.rows
    assert (first.untouched, first.effect.value, first.effect.interval) == ("68.0", "−10.0", "[−20.0, −5.0]")
    assert (first.control.value, first.control.interval, first.draws) == ("+1.0", "[−2.0, +3.0]", "20 draws")
    assert (first.p, first.p_holm, first.problems, first.unit) == (".048", ".190", "1 024", "points")
    assert (restored.untouched, restored.effect.value) == ("–", "0.25"), "a level, not a change"
    assert (length.untouched, length.effect.value) == ("0.7", "−0.1")


@pytest.mark.parametrize(
    ("low", "high", "outside"),
    [(-0.2, -0.05, True), (-0.2, -0.02, False), (-0.2, 0.0, False), (0.03, 0.2, False), (0.04, 0.2, True)],
)
def test_an_effect_stands_out_where_its_interval_and_the_controls_band_do_not_meet(low: float, high: float, outside):
    """The estimate is outside the band in every case; that is not enough."""
    assert apart(Estimate((low + high) / 2, low, high), Estimate(0.01, -0.02, 0.03)) == outside


def test_a_latent_leans_to_the_model_of_its_largest_norm_and_shifts_from_base_to_distilled(study: Path):
    """Rates 4 in 1,000 on the base's rollouts and 1 in 100 on the distilled model's: 2.5 times as often."""
    changes = {"rate_base": 0.004, "rate_distilled": 0.01, "specificity_base": 0.2, "specificity_distilled": 0.5}
    data = read_study(study)
    columns = [pl.lit(value).alias(name) for name, value in (changes | {"specificity_zero_rl": 0.3}).items()]
    for latent in listed(replace(data, latents=data.latents.with_columns(columns)))[:5]:
        assert latent.shift == "× 2.50"
        assert latent.owner == "distilled"


def test_report_imports_no_torch():
    code = "import sys, interp.report; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    repository = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0


def test_the_rates_stand_beside_the_verdict_where_they_are_known(
    study: Path, report: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("interp.report.page.FIGURES", ())
    one = {"world": "lists", "family": "gpt2", "kind": HOSTILE[0], "seed": 3, "commit": "abc"}
    rate = {"world": "all", "instrument": "verdict", "rate": "given", "count": 1, "of": 4, "low": 0.0063, "high": 0.806}
    known = Reliability(pl.DataFrame([one]), pl.DataFrame([rate]), "lists", HOSTILE[1])
    page = Page(render(study, tmp_path, "Fake study", CONFIG, known))
    assert "How often is this right?" in page.text and HOSTILE[0] in page.text and HOSTILE[1] in page.text
    rows = next(table for table in tables(page.path, "verdict") if table[0][1:2] == ["lists, by edits of text"])
    assert rows[0][3:] == ["all worlds, by edits of text", "all worlds, through the circuit"]
    assert rows[1] == ["a verdict is given", "–", "–", "1 of 4 [0.01, 0.81]", "–"]
    assert "How often is this right?" not in Page(report / "index.html").text
