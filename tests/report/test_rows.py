"""The numbers of the page's tables: which column, which unit, which sign, against values that are put in by hand."""

from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest

from interp.report.effects import families
from interp.report.inputs import read_study
from interp.report.latents import listed, most_specific
from interp.report.schemas import EFFECTS, LATENTS
from interp.report.verdict import read_verdict


@pytest.fixture(scope="module")
def read(study):
    return read_study(study)


def estimate(value, low, high):
    return {"estimate": value, "low": low, "high": high}


def test_the_verdict_is_in_percentage_points():
    arm = {"own": estimate(0.125, 0.1, 0.15), "net": estimate(0.25, 0.2, 0.3), "beyond": estimate(0.05, 0.04, 0.06)}
    arm |= {"claim": "both removed", "control_drop": 0.02, "reading": "drop", "needed": 2900, "failed": []}
    arm["checks"] = [{"what": "tokens", "untouched": 30.22, "edited": 1234.5, "passed": True, "problem": "longer"}]
    raw = {
        "verdict": "stylistic",
        "truth": "decorative",
        "bound": 0.05,
        "gain": estimate(0.25, 0.2, 0.3),
        "mediated_fraction": estimate(0.5, 0.4, 0.6),
        "gain_over_control": estimate(0.125, 0.1, 0.15),
        "read_from": {"both removed": "words and steps"},
        "arms": {"words and steps": arm},
        "coverage": 0.5,
        "unlisted": [{"word": "aha", "z": 5.25, "problems": 0.5}],
    }
    shown = read_verdict(SimpleNamespace(verdict=raw))
    assert shown.bound == "5.0"
    assert (shown.gain.value, shown.gain.interval) == ("+25.0", "[+20.0, +30.0]")
    assert (shown.fraction.value, shown.fraction.interval) == ("50", "[40, 60]")
    (line,) = shown.arms
    assert shown.over_control is not None and shown.over_control.value == "+12.5"
    assert (line.own.value, line.own.interval) == ("+12.5", "[+10.0, +15.0]")
    assert (line.net.value, line.beyond.value, line.read) == ("+25.0", "+5.0", True)
    (check,) = line.checks
    assert (check.untouched, check.edited) == ("30.2", "1 234")
    assert (shown.coverage, shown.unlisted) == ("50", ["aha (z 5.2, 50 %)"])
    assert (line.control, line.needed) == ("+2.0", "2 900")
    assert shown.agreement == "disagrees"


EFFECT = {
    "family": "style",
    "arm": "ban",
    "model": "distilled",
    "decoding": "sampled",
    "outcome": "accuracy",
    "untouched": 0.64,
    "control_mean": -0.01,
    "control_low": -0.03,
    "control_high": 0.02,
    "control_name": "c",
    "n_controls": 20,
    "p": 0.02,
    "p_holm": 0.06,
    "n_problems": 128,
    "fired": 7,
    **estimate(-0.125, -0.15, -0.1),
}


def row(read, **changes):
    effects = pl.DataFrame([dict.fromkeys(EFFECTS) | EFFECT | changes], schema=EFFECTS)
    ((found,),) = [family.rows for family in families(replace(read, effects=effects))]
    return found


def test_an_effect_is_in_its_outcomes_unit_beside_its_controls(read):
    found = row(read)
    assert (found.untouched, found.unit) == ("64.0", "points")
    assert (found.effect.value, found.effect.interval) == ("−12.5", "[−15.0, −10.0]")
    assert (found.control.value, found.control.interval) == ("−1.0", "[−3.0, +2.0]")
    assert (found.p, found.p_holm) == (".020", ".060")
    assert (found.draws, found.problems, found.fired) == ("20 draws", "128", "fired 7 ×")


def test_greedy_and_other_models_stand_in_columns_of_the_same_row(read):
    runs = [("base", "sampled"), ("distilled", "greedy"), ("distilled", "sampled"), ("base", "greedy")]
    values = (-0.01, -0.02, -0.03, -0.04)
    rows = [
        dict.fromkeys(EFFECTS) | EFFECT | {"model": model, "decoding": decoding, "estimate": value}
        for (model, decoding), value in zip(runs, values, strict=True)
    ]
    rows.append(rows[2] | {"arm": "other arm"})
    (family,) = families(replace(read, effects=pl.DataFrame(rows, schema=EFFECTS)))
    assert family.others == ["Greedy", "Base", "Base, greedy"]
    assert [found.arm for found in family.rows] == ["ban", "other arm"]
    assert [shown.value for shown in family.rows[0].others] == ["−2.0", "−1.0", "−4.0"]
    assert [shown.value for shown in family.rows[1].others] == ["–", "–", "–"]
    assert (family.rows[0].effect.value, family.total) == ("−3.0", 2)


@pytest.mark.parametrize(
    ("low", "high", "outside"),
    [(-0.15, -0.1, True), (-0.15, -0.03, False), (-0.15, -0.02, False), (0.01, 0.05, False), (0.03, 0.05, True)],
)
def test_outside_is_said_where_interval_and_band_do_not_meet(read, low, high, outside):
    """The band is [-.03, .02]."""
    assert row(read, estimate=(low + high) / 2, low=low, high=high).outside is outside


LATENT = {
    "latent": 0,
    "kind": "",
    "firing_rate": 0.1,
    "specificity_base": 0.2,
    "specificity_distilled": 0.7,
    "specificity_zero_rl": 0.1,
    "rate_base": 0.02,
    "rate_distilled": 0.08,
    "rate_zero_rl": 0.04,
    "mean_base": 0.5,
    "mean_distilled": 1.5,
    "mean_zero_rl": 2.5,
}


def table(*rows):
    """The columns of the schema, and each model's own."""
    schema = dict(LATENTS) | {name: pl.Float64() for name in LATENT if name not in LATENTS}
    return pl.DataFrame([dict.fromkeys(schema) | LATENT | row for row in rows], schema=schema)


def test_a_latent_leans_to_the_model_of_its_largest_decoder_and_shifts_from_base_to_distilled(read):
    latents = table({})
    assert most_specific(latents, read.models).to_list() == ["distilled"]
    (found,) = listed(replace(read, latents=latents))
    assert found.owner == "distilled"
    assert found.shift == "× 4.00"
    by_model = {rate.model: (rate.rate, rate.mean, rate.share) for rate in found.rates}
    assert by_model["base"] == ("0.0200", "0.500", pytest.approx(25))
    assert by_model["distilled"] == ("0.0800", "1.500", pytest.approx(100))
    assert by_model["zero_rl"] == ("0.0400", "2.500", pytest.approx(50))


def test_confirmed_latents_come_first_by_the_confirming_half_then_exclusive_ones_then_frequent_ones(read):
    rows = [
        {"latent": 0, "firing_rate": 0.9},
        {"latent": 1, "firing_rate": 0.1, "confirmed_reflection": True, "auroc_confirm_reflection": 0.8},
        {"latent": 2, "firing_rate": 0.2, "confirmed_reflection": True, "auroc_confirm_reflection": 0.9},
        {"latent": 3, "firing_rate": 0.3, "exclusive_to": "base", "nu_error_max": 0.1},
        {"latent": 4, "firing_rate": 0.4, "exclusive_to": "base", "nu_error_max": 0.01},
        {"latent": 5, "firing_rate": 0.95},
    ]
    assert [latent.id for latent in listed(replace(read, latents=table(*rows)))] == [2, 1, 4, 3, 5, 0]
