"""The families of arms on small random models: what is edited is edited, beside its controls, in whole tables."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import D_MODEL, small_crosscoder

from interp.causal.arms import latent_family, reconstruction_arms, steering_family, text_arms
from interp.causal.effects import SCHEMA, control_columns, effect_rows, table
from interp.causal.latent_sets import LatentArm
from interp.causal.verdict import BOTH, FUNCTION, STYLE
from interp.names import OUTCOMES
from interp.organisms.documents import MARKERS, NEUTRAL
from interp.statistics import Bootstrap, control_p, holm
from interp.traces.measure import Outcomes

from .runs import make_subject

N, FEWER, DRAWS = 40, 16, 4


@pytest.fixture(scope="module")
def subject(models, tokenizer):
    return make_subject(models, tokenizer, N)


@pytest.fixture(scope="module")
def untouched(subject):
    return subject.outcomes(subject.run(N, 1)[0])


def whole(rows):
    frame = table(rows)
    assert frame.columns == list(SCHEMA)
    assert len(frame) == len(rows)
    return frame


def test_text_arms_take_the_words_away_and_their_controls_do_not(subject, untouched):
    arms, rows = text_arms(subject, untouched, DRAWS, FEWER, construction=True)
    assert list(arms) == [STYLE, FUNCTION, BOTH]
    assert untouched.value("marker_density") > 0
    assert arms[STYLE].edited.value("marker_density") == 0
    assert arms[BOTH].edited.value("marker_density") == 0
    assert arms[FUNCTION].edited.value("marker_density") > 0
    for arm in arms.values():
        assert len(arm.edited) == N
        assert [len(c) for c in arm.controls] == [FEWER] * DRAWS
        # Control words are no markers, so that forbidding them leaves the markers, and a redrawn result is no word.
        assert all(c.value("marker_density") > 0 for c in arm.controls)
    assert len(whole(rows)) == 3 * len(OUTCOMES)


def test_where_only_sentences_show_the_function_the_words_alone_are_taken(subject, untouched):
    arms, _ = text_arms(subject, untouched, DRAWS, FEWER, construction=False)
    assert list(arms) == [STYLE]
    assert len(arms[STYLE].controls) == DRAWS


def test_a_lexicon_of_phrases_alone_is_banned_too(subject):
    """No marker of one token: the ban of the longer ones may not become a flag that silently does nothing."""
    phrases = replace(subject.lexicon, markers={"realization": tuple(f"{a} {b}" for a in MARKERS for b in NEUTRAL)})
    wordy = replace(subject, lexicon=phrases, max_new_tokens=60)
    untouched = wordy.outcomes(wordy.run(N, 1)[0])
    assert untouched.value("marker_density") > 0
    arms, _ = text_arms(wordy, untouched, DRAWS, FEWER, construction=True)
    assert arms[STYLE].edited.value("marker_density") == 0
    assert arms[FUNCTION].edited.value("marker_density") > 0


def test_latent_arms_run_beside_their_controls(subject, untouched):
    cc = small_crosscoder()
    identity = LatentArm("factor 1", [1, 2], 1.0, [[3, 4], [5, 6]])
    ablation = LatentArm("ablate all", list(range(24)), 0.0, [[], []])
    ran, rows = latent_family(subject, cc, [identity, ablation], untouched, FEWER)
    same = untouched.head(FEWER)
    for outcome in OUTCOMES:
        for run in (ran["factor 1"].edited, *ran["factor 1"].controls, *ran["ablate all"].controls):
            assert np.array_equal(run.parts[outcome][0], same.parts[outcome][0])
    assert not np.array_equal(ran["ablate all"].edited.parts["length"][0], same.parts["length"][0])
    frame = whole(rows)
    zero = frame.filter((frame["arm"] == "factor 1") & (frame["outcome"] == "length")).row(0, named=True)
    assert (zero["estimate"], zero["low"], zero["high"], zero["control_mean"]) == (0, 0, 0, 0)
    assert zero["p"] == 1.0
    assert zero["n_controls"] == 2


def test_reconstruction_arms_disturb(subject, untouched):
    frame = whole(reconstruction_arms(subject, small_crosscoder(), untouched, FEWER))
    assert set(frame["arm"]) == {"reconstruction only", "error only"}
    assert frame["p"].null_count() == len(frame)


def test_doses_are_read_against_the_untouched_run(subject, untouched):
    direction = torch.sin(torch.arange(D_MODEL).float())
    rows = steering_family(subject, direction, 5.0, [0.0, 50.0], 1.5, untouched, FEWER, 3)
    frame = whole(rows)
    nothing = frame.filter((frame["dose"] == 0.0) & (frame["outcome"] != "verification_rate"))
    assert nothing["estimate"].to_list() == [0.0] * len(nothing)
    assert nothing["coherent"].all()
    assert nothing["p"].to_list() == [1.0] * len(nothing)
    far = frame.filter(frame["dose"] == 50.0)
    assert far.filter(far["outcome"] == "length")["note"].str.contains("perplexity x").all()


def outcomes(values, below=1.0):
    values = np.asarray(values, dtype=float)
    pair = (values, np.full(len(values), below))
    return Outcomes(dict.fromkeys(OUTCOMES, pair))


def test_controls_are_compared_on_the_problems_they_answered():
    untouched, edited = outcomes([1, 1, 0, 0]), outcomes([0, 1, 0, 0])
    controls = [outcomes([1, 0]), outcomes([0, 0])]
    (row, *_) = effect_rows({"family": "f", "arm": "a"}, edited, untouched, controls, "c", Bootstrap(4, 500, 0))
    assert row["estimate"] == -0.25
    assert row["control_mean"] == pytest.approx((-0.5 - 1.0) / 2)
    assert row["n_controls"] == 2
    assert row["p"] == control_p(-0.25, [-0.5, -1.0])


def test_an_outcome_without_events_is_refused_in_the_row():
    never = outcomes([0, 0, 0], below=0.0)
    rows = effect_rows({"family": "f", "arm": "a"}, never, never, [never], "c", Bootstrap(3, 100, 0))
    frame = table(rows)
    assert frame["estimate"].null_count() == frame["untouched"].null_count() == len(frame)
    assert frame["note"].str.contains("never occurred").all()
    assert frame["n_controls"].to_list() == [0] * len(frame)


def test_draws_without_a_value_do_not_count():
    columns = control_columns(0.5, [0.1, float("nan"), 0.3], "c")
    assert columns["n_controls"] == 2
    assert columns["control_mean"] == pytest.approx(0.2)
    assert control_columns(None, [0.1], "c")["p"] is None


def test_p_is_adjusted_within_a_family_and_outcome_and_order_is_kept():
    ps = {("a", "x"): [0.01, 0.04, None], ("a", "y"): [0.03], ("b", "x"): [0.02, 0.02]}
    rows = [
        {"family": f, "outcome": o, "arm": str(i), "p": p} for (f, o), group in ps.items() for i, p in enumerate(group)
    ]
    shuffled = [rows[i] for i in (4, 0, 3, 5, 2, 1)]
    frame = table(shuffled)
    assert frame["arm"].to_list() == [r["arm"] for r in shuffled]
    for (family, outcome), group in ps.items():
        here = frame.filter((frame["family"] == family) & (frame["outcome"] == outcome)).sort("arm")
        assert here["p_holm"].to_list() == holm(group)
    assert table([]).columns == list(SCHEMA)
