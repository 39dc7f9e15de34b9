"""What the command prints at the end of a study: each number under its own heading."""

import io
import re

import polars as pl
import pytest
from rich.console import Console

from interp.causal.effects import SCHEMA
from interp.summary import _arms, _effects, _models, _verdict, interval


def printed(table) -> list[list[str]]:
    """The cells of a table, row by row, its headings first."""
    console = Console(file=io.StringIO(), width=240)
    console.print(table)
    lines = [line for line in console.file.getvalue().splitlines() if re.match("[┃│]", line)]
    return [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines]


def effect(**changes):
    row = dict.fromkeys(SCHEMA) | {"family": "style", "arm": "ban", "outcome": "accuracy", "n_problems": 96}
    row |= {"model": "distilled", "decoding": "sampled"}
    numbers = {"estimate": -0.1, "low": -0.2, "high": 0.05, "control_mean": 0.01, "control_low": -0.02}
    more = {"control_high": 0.03, "n_controls": 20, "p": 0.048, "p_holm": 0.19, "coherent": True}
    return row | numbers | more | changes


def test_p_and_its_adjustment_have_a_column_each():
    rows = [
        effect(),
        effect(arm="dose", coherent=False),
        effect(arm="alone", control_mean=None, p=None, p_holm=None, n_problems=64),
        effect(arm="refused", estimate=None),
        effect(arm="length", outcome="length"),
        effect(decoding="greedy", estimate=-0.7),
        effect(model="base", estimate=-0.8),
        effect(outcome="verification_rate", estimate=-0.3),
        effect(outcome="verification_rate", model="base", estimate=-0.9),
    ]
    head, *body = printed(_effects(pl.DataFrame(rows, schema=SCHEMA)))
    assert head == ["edit", "accuracy", "matched controls", "p", "p (Holm)", "wrong steps repaired", "problems"]
    change, controls = "-0.100 [-0.200, 0.050]", "+0.010 [-0.020, +0.030] x20"
    assert body == [
        ["ban", change, controls, "0.048", "0.190", "-0.300 [-0.200, 0.050]", "96"],
        ["dose (failed a check)", change, controls, "0.048", "0.190", "-", "96"],
        ["alone", change, "-", "-", "-", "-", "64"],
        ["refused", "-", controls, "0.048", "0.190", "-", "96"],
    ]


def test_models_come_in_order_each_outcome_in_its_column():
    number = {"estimate": 1.23456, "low": 1.0, "high": 2.0}
    models = {
        "distilled": {"accuracy": number, "length": number},
        "base": {"accuracy_greedy": number, "marker_density": number, "verification_rate": {"refused": "never"}},
    }
    head, *body = printed(_models(models))
    assert head == ["model", "accuracy", "greedy", "markers / 100 tokens", "wrong steps repaired", "tokens"]
    assert body == [
        ["base", "-", "1.235 [1.000, 2.000]", "1.23 [1.00, 2.00]", "-", "-"],
        ["distilled", "1.235 [1.000, 2.000]", "-", "-", "-", "1.2 [1.0, 2.0]"],
    ]


@pytest.mark.parametrize(("truth", "said"), [("functional", "agrees"), ("stylistic", "DISAGREES"), (None, "unknown")])
def test_the_verdict_beside_the_truth(truth, said):
    verdict = {"verdict": "functional", "truth": truth, "why": "because", "gain_over_control": None}
    verdict |= {"gain": {"estimate": 0.4, "low": 0.3, "high": 0.5}, "mediated_fraction": {"refused": "may be 0"}}
    cells = dict(printed(_verdict(verdict)))
    assert cells["verdict"] == "functional"
    assert said in cells["known truth"]
    assert cells["because"] == "because"
    assert cells["gain over the base"] == "0.400 [0.300, 0.500]"
    assert cells["share of it lost with the style"] == "refused: may be 0"
    assert cells["gain over the control"] == "no control"
    over = dict(printed(_verdict(verdict | {"gain_over_control": {"estimate": 0.2, "low": 0.1, "high": 0.3}})))
    assert over["gain over the control"] == "0.200 [0.100, 0.300]"


def test_each_arm_with_what_it_costs_and_what_it_failed():
    own, net, beyond = ({"estimate": x, "low": x - 0.1, "high": x + 0.1} for x in (0.2, 0.3, 0.4))
    passed = {"own": own, "net": net, "beyond": beyond, "reading": "drop", "failed": []}
    failed = passed | {
        "beyond": None,
        "reading": "no drop",
        "failed": ["markers [5] stayed", "the text repeats itself"],
    }
    head, *body = printed(_arms({"bound": 0.05, "arms": {"echo": passed, "ban": failed}}))
    assert head == ["arm", "own", "net: of the gain", "beyond controls", "reading", "failed checks"]
    shown = ["0.200 [0.100, 0.300]", "0.300 [0.200, 0.400]", "0.400 [0.300, 0.500]"]
    assert body == [
        ["echo", *shown, "drop", "none"],
        ["ban", *shown[:2], "-", "no drop", "markers [5] stayed; the text repeats itself"],
    ]


def test_an_absent_interval_is_a_dash():
    assert interval(None) == interval({"refused": "why"}) == interval({"estimate": None}) == "-"
