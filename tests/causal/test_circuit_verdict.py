"""The verdict through the circuit: what it is read from, and what of it is written."""

import pytest

from interp.causal.arms import BOTH, CIRCUIT, FUNCTION, STYLE
from interp.causal.circuit_verdict import circuit_json, circuit_runs, text_runs
from interp.causal.runs import Runs
from interp.causal.verdict import Verdict
from interp.statistics import Interval, Refused

LOCATED = {
    "site": {"layer": 3, "name": "resid_post"},
    "deciding": {"latents": [7], "why": "1 latent"},
    "wording": {"latents": [], "why": "cannot be read"},
}
NONE = LOCATED | {"deciding": {"latents": [], "why": "no site"}}


def runs_of(**arms):
    """Arms by name: (claim, family)."""
    import polars as pl

    table = pl.DataFrame({"arm": ["untouched", *arms]})
    return Runs(table, {name: {"claim": claim, "family": family} for name, (claim, family) in arms.items()})


ALL = {
    "swap": (STYLE, "style"),
    "ban": (STYLE, "style"),
    "echo": (FUNCTION, "function"),
    "swap; echo": (BOTH, "both"),
    "latents at forks": ("", CIRCUIT),
    "latents removed": (BOTH, CIRCUIT),
    "latents removed; markers put in": (FUNCTION, CIRCUIT),
    "steered": ("", "steering"),
}


def test_text_is_read_without_the_arms_on_latents():
    kept = text_runs(runs_of(**ALL))
    assert list(kept.arms) == ["swap", "ban", "echo", "swap; echo", "steered"]
    assert kept.table["arm"].to_list() == ["untouched", "swap", "ban", "echo", "swap; echo", "steered"]


def test_each_removal_is_read_from_latents_where_there_are_any():
    kept = circuit_runs(runs_of(**ALL))
    assert list(kept.arms) == ["swap", "ban", "echo", "latents removed", "latents removed; markers put in"]
    wording = ALL | {"wording removed": (STYLE, CIRCUIT)}
    del wording["latents removed; markers put in"]
    assert list(circuit_runs(runs_of(**wording)).arms) == ["echo", "latents removed", "wording removed"]


def verdict(word, why="so", **source):
    i = Interval(0.3, 0.2, 0.4)
    return Verdict(word, why, i, i, 0.05, Refused("none"), {}, source)


ROW = {
    "family": CIRCUIT,
    "arm": "deciding latents set back at forks",
    "outcome": "verification_rate",
    "model": "distilled",
    "decoding": "sampled",
    "untouched": 0.8,
    "estimate": -0.7,
    "low": -0.75,
    "high": -0.6,
    "n_controls": 39,
    "control_mean": -0.01,
    "control_low": -0.05,
    "control_high": 0.02,
    "p": 0.025,
}
OTHERS = [
    ROW | {"decoding": "greedy", "estimate": 0.0},
    ROW | {"model": "base", "estimate": 0.0},
    ROW | {"outcome": "accuracy", "estimate": 0.0},
    ROW | {"arm": "deciding latents set back everywhere", "estimate": 0.0},
]


def test_what_is_written():
    got = circuit_json([*OTHERS, ROW], LOCATED, verdict("functional"), verdict("functional", style="swap"))
    assert got == {
        "site": {"layer": 3, "name": "resid_post"},
        "latents": {"deciding": [7], "wording": []},
        "located": True,
        "why": "deciding: 1 latent; wording: cannot be read",
        "repairs": {
            "untouched": 0.8,
            "ablated": pytest.approx(0.1),
            "low": pytest.approx(0.05),
            "high": pytest.approx(0.2),
        },
        "matched_controls": {
            "n": 39,
            "mean": pytest.approx(0.79),
            "low": pytest.approx(0.75),
            "high": pytest.approx(0.82),
            "p": 0.025,
        },
        "verdict": "functional",
        "verdict_why": "so",
        "read_from": {"style": "swap"},
        "agrees": True,
    }


def test_disagreement_is_said():
    assert circuit_json([ROW], LOCATED, verdict("functional"), verdict("redundant"))["agrees"] is False


def test_where_nothing_is_located_there_is_no_verdict_through_it():
    got = circuit_json([], NONE, verdict("decorative"), verdict("decorative", style="swap"))
    assert (got["located"], got["verdict"], got["read_from"]) == (False, "undetermined", {})
    assert got["verdict_why"] == "No latents of the decision are located."
    assert got["repairs"] is None and got["matched_controls"] is None


def test_executing_latents_alone_do_not_locate_the_decision():
    found = NONE | {"executing": {"latents": [4], "why": "1 latent"}}
    got = circuit_json([], found, verdict("decorative"), verdict("decorative"))
    assert got["latents"] == {"deciding": [], "wording": [], "executing": [4]} and got["located"] is False


@pytest.mark.parametrize("word", ["no gain", "no gain beyond training"])
def test_without_a_gain_there_is_nothing_to_locate(word):
    got = circuit_json([], NONE, verdict(word), verdict(word))
    assert (got["verdict"], got["verdict_why"], got["agrees"]) == (word, "so", True)


def test_a_refused_share_of_repairs_is_none():
    got = circuit_json([ROW | {"estimate": None}], LOCATED, verdict("functional"), verdict("functional"))
    assert got["repairs"] is None and got["matched_controls"] is None
    alone = circuit_json([{**ROW, "n_controls": 0}], LOCATED, verdict("functional"), verdict("functional"))
    assert alone["repairs"] is not None and alone["matched_controls"] is None
