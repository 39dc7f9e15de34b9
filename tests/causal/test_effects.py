"""The table of effects by hand: every column of every row, and which p-values are given."""

import numpy as np
import polars as pl
import pytest

from interp.causal.arms import STYLE
from interp.causal.effects import SCHEMA, control_columns, effects, table
from interp.causal.setting import GREEDY
from interp.names import OUTCOMES
from interp.statistics import holm

from .runs import Table, answers, run_rows

N = 100


def rows_of(made, arm="a", outcome="accuracy", model="distilled", decoding="sampled", **options):
    frame = table(effects(made.runs() if isinstance(made, Table) else made, resamples=500, **options))
    assert frame.columns == list(SCHEMA)
    chosen = frame.filter(
        (pl.col("arm") == arm)
        & (pl.col("outcome") == outcome)
        & (pl.col("model") == model)
        & (pl.col("decoding") == decoding)
    )
    return chosen.row(0, named=True)


def plain():
    return Table().untouched("distilled", answers(0.8, N), markers=4.0).untouched("base", answers(0.4, N))


def test_the_band_of_the_controls_holds_95_percent_of_the_draws():
    """Of 0, 1, ..., 1000 the percentiles 2.5 and 97.5 are 25 and 975."""
    columns = control_columns(2000.0, np.random.default_rng(0).permutation(np.arange(1001.0)).tolist(), "c")
    assert (columns["control_low"], columns["control_high"]) == pytest.approx((25.0, 975.0))
    assert columns["control_mean"] == pytest.approx(500.0)
    assert columns["p"] == pytest.approx(1 / 1002)


def test_p_is_the_larger_of_that_against_the_draws_and_that_of_the_effects_own_error():
    assert control_columns(1.0, [0.0] * 99, "c", 0.3)["p"] == pytest.approx(0.3)
    assert control_columns(1.0, [0.0] * 99, "c", 0.001)["p"] == pytest.approx(0.01)
    assert control_columns(None, [0.1], "c")["p"] is None
    columns = control_columns(0.5, [0.1, float("nan"), 0.3], "c")
    assert columns["n_controls"] == 2 and columns["control_mean"] == pytest.approx(0.2)
    assert control_columns(0.5, [float("nan")], "c") == {"control_name": "c", "n_controls": 0}


def test_one_problem_changed_beside_controls_that_change_none_is_not_significant():
    n = 1024
    made = Table().untouched("distilled", answers(0.5, n))
    right = answers(0.5, n)
    right[0] = 0
    row = rows_of(made.arm("a", right=right, draws=[answers(0.5, n)] * 39))
    assert row["estimate"] == pytest.approx(-1 / n) and row["control_mean"] == 0
    assert row["p"] > 0.3


def test_an_effect_beyond_all_controls_has_the_smallest_p():
    row = rows_of(plain().arm("a", right=answers(0.5, N), draws=[answers(0.8, N, k % 4) for k in range(39)]))
    assert row["p"] == pytest.approx(1 / 40) == row["p_holm"]


def test_a_row_by_hand():
    """Untouched .8; edited .6; two draws of the first 50 problems lose 10 and 20 of these 50."""
    draws = [np.r_[np.zeros(10), np.ones(40)], np.r_[np.zeros(20), np.ones(30)]]
    said = {"site": "z", "layer": 3, "dose": -0.2, "note": "matched", "family": "f"}
    made = plain().arm("a", right=answers(0.6, N), draws=draws, said=said, fired=3, markers=1.0)
    row = rows_of(made)
    assert (row["untouched"], row["estimate"]) == pytest.approx((0.8, -0.2))
    assert row["low"] < -0.2 < row["high"] < 0
    assert row["control_mean"] == pytest.approx(-0.3)
    assert (row["control_low"], row["control_high"]) == pytest.approx((-0.395, -0.205))
    assert (row["n_controls"], row["n_problems"], row["fired"]) == (2, N, 300)
    assert (row["family"], row["site"], row["layer"], row["dose"], row["note"]) == ("f", "z", 3, -0.2, "matched")
    assert (row["model"], row["control_name"], row["coherent"]) == ("distilled", "controls", True)
    density = rows_of(made, outcome="marker_density")
    assert (density["untouched"], density["estimate"]) == pytest.approx((4.0, -3.0))
    assert density["control_mean"] == pytest.approx(0.0)


def test_the_p_compares_the_effect_on_the_controls_own_problems():
    """Fifteen problems are lost, none of them among the first 50, which alone the controls have answered."""
    right = answers(0.8, N)
    right[55:70] = 0
    draws = [np.r_[np.zeros(10), np.ones(40)], *[np.ones(50)] * 38]
    row = rows_of(plain().arm("a", right=right, draws=draws))
    assert row["estimate"] == pytest.approx(-0.15) and row["high"] < 0
    assert row["p"] == pytest.approx(1.0)


def test_an_arm_on_some_problems_is_compared_with_those():
    row = rows_of(plain().arm("a", right=np.zeros(20), numbers=range(70, 90)))
    assert (row["untouched"], row["estimate"], row["n_problems"]) == (0.5, -0.5, 20)
    assert row["p"] is None and row["n_controls"] is None and row["control_name"] == "controls"


def test_greedy_rows_and_those_of_other_models_are_compared_with_their_own_untouched_run():
    made = plain().arm("a", STYLE, answers(0.6, N), base=answers(0.35, N), draws=[answers(0.8, N)] * 2, markers=0.0)
    made.frames.append(run_rows(answers(1.0, N), decoding=GREEDY))
    made.frames.append(run_rows(answers(0.9, N), arm="a", decoding=GREEDY))
    greedy, base = rows_of(made, decoding=GREEDY), rows_of(made, model="base")
    assert (greedy["untouched"], greedy["estimate"]) == pytest.approx((1.0, -0.1))
    assert (base["untouched"], base["estimate"]) == pytest.approx((0.4, -0.05))
    for row in (greedy, base):
        assert row["n_controls"] is None and row["p"] is None
    assert rows_of(made)["n_controls"] == 2


def test_an_outcome_without_events_is_refused_in_the_row():
    row = rows_of(plain().arm("a", draws=[answers(0.8, N)] * 3), outcome="verification_rate")
    assert row["estimate"] is None and row["untouched"] is None and row["p"] is None
    assert "never occurred" in row["note"] and row["n_controls"] == 0


def test_an_incoherent_or_failed_arm_is_hollow_and_has_no_p():
    made = plain().arm("a", right=answers(0.5, N), draws=[answers(0.8, N)] * 39)
    assert rows_of(made, coherence={"a": 1.49})["coherent"]
    for options, said in (
        ({"coherence": {"a": 1.5}}, "perplexity x1.50"),
        ({"failed": {"a": ["markers stayed"]}}, "markers stayed"),
    ):
        row = rows_of(made, **options)
        assert not row["coherent"] and row["p"] is None and row["p_holm"] is None
        assert said in row["note"]
    forced = plain().arm("a", right=answers(0.5, N), draws=[answers(0.8, N)] * 39, said={"forced": True})
    assert rows_of(forced, coherence={"a": 9.0})["coherent"], "forced words are improbable on purpose"


def given(family, ps, draws=99, outcome="x"):
    return [
        {"family": family, "outcome": outcome, "arm": f"{family} {i}", "p": p, "n_controls": draws}
        for i, p in enumerate(ps)
    ]


def test_p_is_adjusted_over_one_table_and_order_is_kept():
    """Style, function and both are one table; latents another; outcomes apart."""
    text = [*given("style", [0.01]), *given("function", [0.04, None]), *given("both", [0.03])]
    rows = [*text, *given("latents", [0.02, 0.02]), *given("style", [0.03], outcome="y")]
    frame = table([rows[i] for i in (4, 0, 3, 5, 2, 1, 6)])
    assert frame["arm"].to_list() == [rows[i]["arm"] for i in (4, 0, 3, 5, 2, 1, 6)]
    of = {(r["arm"], r["outcome"]): r["p_holm"] for r in frame.iter_rows(named=True)}
    assert [of[r["arm"], "x"] for r in text] == pytest.approx(holm([0.01, 0.04, None, 0.03]), nan_ok=True)
    assert of["latents 0", "x"] == of["latents 1", "x"] == pytest.approx(0.04)
    assert of["style 0", "y"] == pytest.approx(0.03)
    assert table([]).columns == list(SCHEMA)


def test_where_no_p_could_pass_none_is_given():
    """19 draws can pass alone (.05), not beside another; those with the fewest draws go first, and do not count."""
    alone = table(given("f", [0.05], 19))
    assert alone["p_holm"].to_list() == [0.05]
    assert table(given("f", [0.05, 0.05], 19))["p"].to_list() == [None, None]
    mixed = table([*given("f", [0.025], 39), *given("g", [0.05], 19)])
    assert mixed["p"].to_list() == [0.025, 0.05], "two tables"
    rows = [*given("f", [0.01, 0.01, 0.01], 99), {**given("f", [0.05], 19)[0], "arm": "few"}]
    frame = table(rows)
    assert frame["p"].to_list() == [0.01, 0.01, 0.01, None]
    assert frame["p_holm"].to_list()[:3] == pytest.approx([0.03] * 3)


def test_every_arm_has_a_row_for_every_outcome():
    frame = table(effects(plain().arm("a").arm("b").runs(), resamples=100))
    assert frame["outcome"].to_list() == [*OUTCOMES] * 2
    nothing = frame.filter(pl.col("outcome") == "accuracy").row(0, named=True)
    assert nothing["estimate"] == 0.0 and nothing["low"] < 0 < nothing["high"], "none of 100 changed is no certainty"
