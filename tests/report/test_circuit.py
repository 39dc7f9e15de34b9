"""The latents of the decision on the page: numbers, claims and refusals are those of the file."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from interp.features.readout import SCHEMA as READOUT
from interp.report import render
from interp.report.figures.circuit import ARMS, circuit
from interp.report.figures.path import path
from interp.report.inputs import read_study
from interp.report.latents import listed
from interp.report.palette import house_style

from .conftest import CONFIG
from .fake_files import HOSTILE
from .pages import Page, tables

CONTROLS = [0.9, 0.95, 0.99, 0.97]
LOCATED = {
    "located": True,
    "why": "2 latents take the onset from 0.993 to 0.140, beyond all 4 controls",
    "latents": [7, 3],
    "tried": [7, 3],
    "pairs": 260,
    "onset": 0.993,
    "onset_ablated": 0.14,
    "false_alarm": 0.011,
    "false_alarm_ablated": 0.012,
    "kl_negative": 0.0123,
    "controls": CONTROLS,
    "p": 0.2,
    "match": "frequency 0.79, size 0.76",
    "gap": 20.4,
    "explained": 19.28,
    "correlation": 0.52,
}
REFUSED = {"located": False, "why": "marker / neutral: cannot be read", "latents": []}


@pytest.fixture
def copy(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("interp.report.page.FIGURES", (circuit,))
    return shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("report"))


def write(copy: Path, **classes: object) -> Path:
    found = {"site": {"layer": 2, "name": "resid_mid"}} | classes
    (copy / "features" / "circuit.json").write_text(json.dumps(found))
    return copy


def page(copy: Path) -> Page:
    return Page(render(copy, copy / "report", "Title", CONFIG))


def effects(copy: Path, estimate: float) -> None:
    """Rows of the two arms that are drawn, after the others'."""
    table = pl.read_parquet(copy / "causal" / "effects.parquet")
    row = table.row(0, named=True) | {"family": "circuit", "outcome": "verification_rate", "decoding": "sampled"}
    rows = [
        row | {"arm": arm, "model": "distilled", "estimate": value, "low": value - 0.05, "high": value + 0.05}
        for arm, value in zip(ARMS.values(), (estimate, 0.0), strict=True)
    ]
    pl.concat([table, pl.DataFrame(rows, schema=table.schema)]).write_parquet(copy / "causal" / "effects.parquet")


def test_every_number_of_the_confirmation_is_in_the_table(copy):
    write(copy, deciding=LOCATED, wording=REFUSED)
    page(copy)
    rows = tables(copy / "report" / "index.html", "circuit")[0]
    assert dict(rows) == {
        "Tried": "7, 3",
        "Probability after the positive side, untouched → set back": "0.993 → 0.140",
        "The same after the negative side (false alarms)": "0.011 → 0.012",
        "KL after the negative side, nats": "0.0123",
        "Probability under 4 controls": "0.900 to 0.990",
        "p": ".200",
        "Pairs": "260",
        "Match": "frequency 0.79, size 0.76",
        "Gap of the margin, nats": "20.40",
        "Of it in the dictionary, nats": "19.28",
        "Rank correlation of attribution and exact effect": "0.52",
    }


def test_claims_and_refusals_are_told_apart_and_claimed_latents_come_first(copy):
    write(copy, deciding=LOCATED, wording=REFUSED)
    found = page(copy)
    assert "Deciding latents: located" in found.text and "Wording latents: not located" in found.text
    assert REFUSED["why"] in found.text and "blocks.2.hook_resid_mid" in found.text
    assert [latent.id for latent in listed(read_study(copy))][:2] == [7, 3]
    links = [link for link in found.links() if "latent_" in link]
    assert {"dashboard/latent_7.html", "dashboard/latent_3.html"} <= set(links)
    assert all((copy / "report" / link).is_file() for link in links)


def test_what_was_tried_and_not_confirmed_is_not_claimed(copy):
    write(copy, deciding=LOCATED | {"located": False, "latents": [], "why": "1 latents leave an onset"})
    found = page(copy)
    assert "Deciding latents: not located" in found.text and "1 latents leave an onset" in found.text
    assert ["Tried", "7, 3"] in tables(copy / "report" / "index.html", "circuit")[0]
    assert [latent.id for latent in listed(read_study(copy))][:2] != [7, 3]


def draw(copy):
    with house_style():
        return circuit(read_study(copy))


def test_the_figure_tells_the_files_numbers(copy):
    write(copy, deciding=LOCATED)
    effects(copy, -0.62)
    drawing = draw(copy)
    assert "untouched 0.993, with 2 latents set back 0.140, with 4 matched controls 0.900 to 0.990" in drawing.alt
    assert "deciding latents set back at forks: Verification −62.0 [−67.0, −57.0] points" in drawing.alt
    assert "deciding latents set back elsewhere: Verification 0.0 [−5.0, +5.0] points" in drawing.alt
    forced, free = drawing.figure.axes
    assert sorted(forced.collections[0].get_offsets()[:, 1].tolist()) == sorted(CONTROLS)
    assert [line.get_ydata()[0] for line in forced.lines] == [0.993, 0.14]
    assert [c.lines[0].get_ydata()[0] for c in free.containers if hasattr(c, "lines")] == pytest.approx([-62.0, 0.0])


EVIDENCE = {
    "class": "deciding",
    "what": "latents",
    "edit": "set back",
    "model": "distilled",
    "k": 2,
    "chosen": ["7", "3"],
    "margin_untouched": 9.44,
    "margin": -8.25,
    "onset_untouched": 0.993,
    "onset": 0.14,
    "false_alarm_untouched": 0.011,
    "false_alarm": 0.012,
    "kl_negative": 0.0123,
    "control": "2 matched latents",
    "n_controls": 100,
    "control_mean": 0.97,
    "control_low": 0.9,
    "control_high": 0.995,
    "p": 1 / 101,
}
INTO = EVIDENCE | {
    "what": "residual",
    "edit": "the subject's activation",
    "model": "base",
    "k": 0,
    "onset_untouched": 0.001,
    "onset": 0.901,
    "control": "none",
    "n_controls": 0,
    "control_mean": None,
    "control_low": None,
    "control_high": None,
    "p": None,
}


def table_of(copy, head):
    """The one table of the section with this first heading."""
    (found,) = [t for t in tables(copy / "report" / "index.html", "circuit") if t[0] and t[0][0] == head]
    return found


def test_evidence_stands_beside_its_controls(copy):
    write(copy, deciding=LOCATED)
    pl.DataFrame([EVIDENCE, INTO], infer_schema_length=None).write_parquet(copy / "features" / "evidence.parquet")
    page(copy)
    first, second = table_of(copy, "what")[1:]
    assert first[:3] == ["latents", "distilled", "2"]
    assert first[3:] == [
        "set back",
        "9.4 → −8.2",
        "0.993 → 0.140",
        "0.011 → 0.012",
        "0.012",
        "100 × 2 matched latents",
        "0.970, 0.900 to 0.995",
        ".010",
    ]
    assert second[:4] == ["residual", "base", "", "the subject&#39;s activation"]
    assert second[5] == "0.001 → 0.901" and second[8:10] == ["none", "–"]


def test_partners_in_other_dictionaries_and_what_they_find_themselves(copy):
    own = {
        "1": {"latents": [9], "onset_ablated": 0.051, "carries": True},
        "2": {"latents": [], "onset_ablated": 0.9, "carries": False},
    }
    write(copy, deciding=LOCATED | {"own_sets": own})
    row = {"class": "deciding", "latent": 7, "dictionary": 1, "partner": 9, "cosine": 0.931, "recurs": True}
    other = row | {"dictionary": 2, "partner": None, "cosine": 0.0, "recurs": False}
    pl.DataFrame([row, other], infer_schema_length=None).write_parquet(copy / "features" / "recurrence.parquet")
    page(copy)
    partners, sets = (
        t
        for t in tables(copy / "report" / "index.html", "circuit")
        if t[0][:1] in (["dictionary"], ["latent"]) and "dictionary" in t[0]
    )
    assert partners[1:] == [["7", "1", "9", "0.93", "yes"], ["7", "2", "–", "0.00", "no"]]
    assert sets[1:] == [["1", "9", "0.051", "yes"], ["2", "", "0.900", "no"]]


def test_the_latents_between_the_models(copy):
    write(copy, deciding=LOCATED)
    latents = pl.read_parquet(copy / "features" / "latents.parquet")
    page(copy)
    (found,) = [t for t in tables(copy / "report" / "index.html", "circuit") if "ν error" in t[0]]
    row = latents.filter(pl.col("latent") == 7).row(0, named=True)
    shown = dict(zip(found[0], next(r for r in found[1:] if r[0] == "7"), strict=True))
    assert shown["share, distilled"] == f"{row['specificity_distilled']:.2f}"
    assert shown["fires, base"] == f"{row['rate_base']:.4f}"


def test_what_each_model_reads_by_itself(copy):
    write(copy, deciding=LOCATED)
    rows = [("deciding", 7, "base", 0.125, 0.0625, 1.5, 0.25), ("wording", 7, "base", 0.9, 0.9, 9.0, 9.0)]
    pl.DataFrame(rows, schema={"class": pl.String} | READOUT, orient="row").write_parquet(
        copy / "features" / "readout.parquet"
    )
    page(copy)
    (found,) = [t for t in tables(copy / "report" / "index.html", "circuit") if "read in" in t[0]]
    assert found[1:] == [["7", "base", "0.125", "0.062", "1.50", "0.25"]]


def test_the_verdict_through_the_circuit_and_whether_it_agrees(copy):
    write(copy, deciding=LOCATED)
    verdict = json.loads((copy / "causal" / "verdict.json").read_text())
    arm = next(iter(verdict["arms"].values()))
    for word, agrees in ((verdict["verdict"], True), ("redundant", False)):
        through = {
            "verdict": word,
            "verdict_why": "Since so.",
            "agrees": agrees,
            "read_from": {},
            "arms": {"deciding latents removed": arm},
        }
        (copy / "causal" / "verdict.json").write_text(json.dumps(verdict | {"circuit": through}))
        found = page(copy)
        assert f"The verdict through the circuit: {word}" in found.text and "Since so." in found.text
        assert ("The verdict by edits of text is the same." in found.text) == agrees
        assert (f"is another: {verdict['verdict']}" in found.text) != agrees
        assert "deciding latents removed" in found.text


def paths(copy, attention=(0.05, 0.1, 0.8, 0.05)):
    row = {"class": "deciding", "component": "head", "layer": 2, "head": 1, "effect": 8.1, "share": 0.6}
    looks = {"attention": list(attention), "attention_negative": [0.6, 0.2, 0.1, 0.1], "tokens": [" 5", " =", " 2"]}
    nowhere = dict.fromkeys(looks)
    rows = [
        row | looks,
        row | nowhere | {"component": "mlp", "head": None, "effect": 3.04},
        row | nowhere | {"component": "embedding", "layer": None, "head": None, "effect": -0.5},
    ]
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(copy / "features" / "path.parquet")
    with house_style():
        return path(read_study(copy))


def test_the_path_tells_the_effects_and_where_the_heads_look(copy):
    drawing = paths(copy)
    assert "head 2.1 8.1; MLP 2 3.0; embedding −0.5" in drawing.alt
    assert "head 2.1 looks most 1 before it (0.80), on the negative side at earlier tokens (0.60)." in drawing.alt
    bars, looked = drawing.figure.axes
    assert [bar.get_width() for bar in bars.patches] == [8.1, 3.04, -0.5]
    assert [label.get_text() for label in looked.get_xticklabels()] == ["…", "5", "=", "2"]
    assert [label.get_text() for label in looked.get_yticklabels()] == ["head 2.1 +", "head 2.1 −"]
    assert looked.images[0].get_array().tolist() == [[0.05, 0.1, 0.8, 0.05], [0.6, 0.2, 0.1, 0.1]]
    assert "looks most at the place itself (0.70)" in paths(copy, (0.1, 0.1, 0.1, 0.7)).alt


def test_without_a_path_none_is_drawn(copy):
    (copy / "features" / "path.parquet").unlink(missing_ok=True)
    with house_style():
        assert path(read_study(copy)) is None


@pytest.mark.parametrize("change", [{"controls": []}, {"onset": None}, {"onset_ablated": None}])
def test_without_a_confirmation_nothing_is_drawn(copy, change):
    assert draw(write(copy, deciding=LOCATED | change)) is None
    assert draw(write(copy, deciding=REFUSED)) is None
    assert page(copy).text


def test_a_study_without_the_file_has_no_such_section(copy):
    (copy / "features" / "circuit.json").unlink(missing_ok=True)
    found = page(copy)
    assert "The latents of the decision" not in found.text and "#circuit" not in found.links()


def test_hostile_text_is_escaped(copy):
    write(copy, deciding=LOCATED | {"why": "".join(HOSTILE), "match": "".join(HOSTILE)})
    found = page(copy)
    assert not any(tag == "script" and "owned" in str(attrs) for tag, attrs in found.tags)
    assert not any(attrs.get("onerror") or attrs.get("onload") for _, attrs in found.tags)
