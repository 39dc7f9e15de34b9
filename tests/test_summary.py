"""What the console prints at the end: each number from its own column."""

import json

import polars as pl
from rich.console import Console

from interp.causal.effects import SCHEMA
from interp.folders import MANIFEST
from interp.study import Study
from interp.summary import _effects, _models, _verdict, interval, print_summary


def printed(table):
    console = Console(width=200, record=True)
    console.print(table)
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]


def estimate(value, low, high):
    return {"estimate": value, "low": low, "high": high}


EFFECT = {
    "family": "style",
    "arm": "ban",
    "outcome": "accuracy",
    "control_mean": -0.01,
    "control_low": -0.03,
    "control_high": 0.02,
    "n_controls": 20,
    "p": 0.021,
    "p_holm": 0.063,
    "n_problems": 128,
    "coherent": True,
    **estimate(-0.125, -0.15, -0.1),
}


def test_an_edits_row_is_its_change_beside_its_controls_with_the_adjusted_p():
    rows = [EFFECT, EFFECT | {"arm": "far", "coherent": False, "control_mean": None, "p": None, "p_holm": None}]
    rows += [EFFECT | {"arm": "words", "outcome": "length"}]
    cells = printed(_effects(pl.DataFrame([dict.fromkeys(SCHEMA) | r for r in rows], schema=SCHEMA)))
    assert ["ban", "-0.125 [-0.150, -0.100]", "-0.010 [-0.030, +0.020] x20", "0.063", "128"] in cells
    assert ["far (incoherent)", "-0.125 [-0.150, -0.100]", "-", "-", "128"] in cells
    assert not [row for row in cells if row and row[0] == "words"], "accuracy alone"


def test_each_models_numbers_stand_in_their_columns():
    models = {
        "distilled": {
            "accuracy": estimate(0.75, 0.7, 0.8),
            "accuracy_greedy": estimate(0.85, 0.8, 0.9),
            "marker_density": estimate(5.25, 5, 5.5),
            "verification_rate": {"refused": "never"},
            "length": estimate(30.0, 29.0, 31.0),
        },
        "base": {"accuracy": estimate(0.5, 0.4, 0.6)},
    }
    cells = printed(_models(models))
    base, distilled = (next(row for row in cells if row and row[0] == name) for name in ("base", "distilled"))
    assert cells.index(base) < cells.index(distilled)
    assert base[1:] == ["0.500 [0.400, 0.600]", "-", "-", "-", "-"]
    assert distilled[1:] == [
        "0.750 [0.700, 0.800]",
        "0.850 [0.800, 0.900]",
        "5.25 [5.00, 5.50]",
        "-",
        "30.0 [29.0, 31.0]",
    ]
    assert interval(None) == "-"


VERDICT = {
    "verdict": "stylistic",
    "truth": "functional",
    "why": "because",
    "bound": 0.05,
    "gain": estimate(0.25, 0.2, 0.3),
    "mediated_fraction": estimate(0.5, 0.4, 0.6),
    "arms": {"style": {"drop": estimate(0.125, 0.1, 0.15), "control_drop": 0.02, "reading": "drop", "needed": None}},
    "models": {},
}


def test_the_verdict_stands_beside_the_truth():
    rows = dict(row for row in printed(_verdict(VERDICT)) if len(row) == 2)
    assert rows["verdict"] == "stylistic"
    assert rows["known truth"] == "functional (DISAGREES)"
    assert rows["gain over the base"] == "0.250 [0.200, 0.300]"
    assert rows["share of it lost with the style"] == "0.500 [0.400, 0.600]"
    assert rows["loss, style"] == "0.125 [0.100, 0.150]: drop (bound 0.05)"
    agreeing = dict(row for row in printed(_verdict(VERDICT | {"truth": "stylistic"})) if len(row) == 2)
    assert agreeing["known truth"] == "stylistic (agrees)"
    refused = _verdict(VERDICT | {"truth": None, "mediated_fraction": {"refused": "no gain"}})
    rows = dict(row for row in printed(refused) if len(row) == 2)
    assert (rows["known truth"], rows["share of it lost with the style"]) == ("unknown", "refused: no gain")


def test_the_whole_is_printed_from_a_studys_files(tmp_path, capsys):
    for name in ("report", "causal"):
        (tmp_path / name).mkdir()
        manifest = {"files": {}, "config_hash": "", "wall_seconds": 7.0 if name == "causal" else 3.0}
        (tmp_path / name / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "report" / "verdict.json").write_text(json.dumps(VERDICT))
    frame = pl.DataFrame([dict.fromkeys(SCHEMA) | EFFECT], schema=SCHEMA)
    frame.write_parquet(tmp_path / "causal" / "effects.parquet")
    print_summary(Study(None, tmp_path))
    text = capsys.readouterr().out
    for expected in ("-0.125 [-0.150, -0.100]", "0.063", "stylistic", "causal 7, report 3", str(tmp_path / "report")):
        assert expected in text
