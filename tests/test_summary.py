"""What the command prints at the end of a study: each number under its own heading."""

import io
import re

import polars as pl
import pytest
from rich.console import Console

from interp.causal.effects import SCHEMA
from interp.summary import _effects, _models, _verdict, interval


def printed(table) -> list[list[str]]:
    """The cells of a table, row by row, its headings first."""
    console = Console(file=io.StringIO(), width=240)
    console.print(table)
    lines = [line for line in console.file.getvalue().splitlines() if re.match("[┃│]", line)]
    return [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines]


def effect(**changes):
    row = dict.fromkeys(SCHEMA) | {"family": "style", "arm": "ban", "outcome": "accuracy", "n_problems": 96}
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
    ]
    head, *body = printed(_effects(pl.DataFrame(rows, schema=SCHEMA)))
    assert head == ["edit", "change", "matched controls", "p", "p (Holm)", "problems"]
    change, controls = "-0.100 [-0.200, 0.050]", "+0.010 [-0.020, +0.030] x20"
    assert body == [
        ["ban", change, controls, "0.048", "0.190", "96"],
        ["dose (incoherent)", change, controls, "0.048", "0.190", "96"],
        ["alone", change, "-", "-", "-", "64"],
        ["refused", "-", controls, "0.048", "0.190", "96"],
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
    drop = {"drop": {"estimate": 0.2, "low": 0.1, "high": 0.3}, "reading": "drop"}
    verdict = {"verdict": "functional", "truth": truth, "why": "because", "bound": 0.05, "arms": {"both removed": drop}}
    verdict |= {"gain": {"estimate": 0.4, "low": 0.3, "high": 0.5}, "mediated_fraction": {"refused": "may be 0"}}
    cells = dict(printed(_verdict(verdict)))
    assert cells["verdict"] == "functional"
    assert said in cells["known truth"]
    assert cells["because"] == "because"
    assert cells["gain over the base"] == "0.400 [0.300, 0.500]"
    assert cells["share of it lost with the style"] == "refused: may be 0"
    assert cells["loss, both removed"] == "0.200 [0.100, 0.300]: drop (bound 0.05)"


def test_an_absent_interval_is_a_dash():
    assert interval(None) == interval({"refused": "why"}) == interval({"estimate": None}) == "-"
