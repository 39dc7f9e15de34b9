"""What the stage computes itself: the steering direction, the runs that are compared with, and the verdict's file."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from small import small_crosscoder

from interp.causal.arms import STYLE
from interp.causal.coherence import perplexity
from interp.causal.places import Reading
from interp.causal.setting import GREEDY
from interp.causal.verdict import conclude
from interp.config import check_config
from interp.models.trio import open_trio
from interp.names import EDITED, REFLECTION, VERIFICATION
from interp.stages import causal
from interp.stages.activation_arms import (
    _decided_at,
    at_edits,
    at_tokens,
    behaviour_direction,
    no_control,
    selected_latents,
)
from interp.stages.causal import _coherence, _written
from interp.study import Study
from interp.tasks.chains import ChainTask
from interp.traces.labels import BEFORE, ELSEWHERE, INSIDE, MARKER, NONE, token_offsets
from interp.traces.lexicon import load_lexicon
from interp.traces.tokens import decode, encode
from interp.traces.unlisted import StyleWord, StyleWords
from tests.causal.runs import Table, answers, make_setting, run_rows
from tests.features.samples import labelled

PLACES = {
    REFLECTION: [INSIDE, ELSEWHERE, ELSEWHERE, ELSEWHERE, MARKER, NONE],
    VERIFICATION: [ELSEWHERE, INSIDE, ELSEWHERE, BEFORE, MARKER, NONE],
}
"""Two rows inside a behaviour, one outside both; then one just before a behaviour, a marker, and a prompt's."""
ROWS = [[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [100.0, 0.0], [0.0, 200.0], [0.0, 300.0]]
"""The edited model's; norms 5, 1, 2, 100, 200, 300."""


def data(folder, places=PLACES):
    x = torch.zeros(6, 3, 16)
    x[:, 1, :2] = torch.tensor(ROWS)
    x[:, 0], x[:, 2] = 7.0, -7.0  # the other models' residuals
    return labelled(folder, x, [6], label={b: np.array(p, dtype="<U9") for b, p in places.items()})


def test_the_direction_points_from_elsewhere_into_the_behaviour(tmp_path):
    """((3, 4) + (1, 0)) / 2 - (0, 2) = (2, 0), of the edited model alone; the mean norm is over all its rows."""
    direction = behaviour_direction(data(tmp_path / "store"))
    assert direction is not None
    assert direction.vector[:2].tolist() == [2.0, 0.0]
    assert torch.count_nonzero(direction.vector[2:]) == 0
    assert direction.provenance.residual_norm == pytest.approx((5 + 1 + 2 + 100 + 200 + 300) / 6)
    assert (direction.layer, direction.provenance.model) == (1, "distilled")


def test_the_direction_is_of_problems_on_which_it_is_not_tested(tmp_path):
    whole = data(tmp_path / "store")
    assert behaviour_direction(whole, {"other"}) is not None
    assert behaviour_direction(whole, set(whole.row_problem)) is None


@pytest.mark.parametrize("place", [INSIDE, ELSEWHERE])
def test_without_rows_of_both_kinds_there_is_no_direction(tmp_path, place):
    gone = {b: [NONE if p == place else p for p in places] for b, places in PLACES.items()}
    assert behaviour_direction(data(tmp_path / "store", gone)) is None


def test_selection_takes_the_best_confirmed_and_leaves_out_empty_behaviours():
    n = 8
    latents = pl.DataFrame(
        {
            "latent": np.arange(10, 10 + n),
            "confirmed_reflection": np.isin(np.arange(n), [2, 3, 4, 7]),
            "confirmed_verification": np.zeros(n, dtype=bool),
            "kind": ["behaviour latent"] * (n - 1) + ["token latent"],
            "auroc_confirm_reflection": [0.9, 0.9, 0.6, 0.8, 0.7, 0.9, 0.9, 0.9],
            "auroc_confirm_verification": np.ones(n),
            "auroc_reflection": [0.9, 0.9, 0.8, 0.6, 0.7, 0.9, 0.9, 0.9],
        }
    )
    assert selected_latents(latents, 2) == {"reflection": [13, 14]}


def test_latents_are_matched_where_the_edited_model_is_edited(tmp_path):
    """Rates and sizes over the distilled model's rows alone, with its own decoder in input units."""
    torch.manual_seed(0)
    whole = labelled(tmp_path / "store", 3 * torch.randn(12, 3, 16), [6, 6])
    cc = small_crosscoder()
    firing, size = at_edits(cc, whole)
    mine = whole.written_by("distilled")
    f = cc.encode(whole.rows[torch.from_numpy(mine)].float())
    assert 0 < mine.sum() < len(mine)
    np.testing.assert_allclose(firing, (f > 0).float().mean(0), atol=1e-6)
    norms = (cc.W_dec[:, 1] / cc.scale[1]).norm(dim=1)
    np.testing.assert_allclose(size, f.mean(0) * norms, rtol=1e-4, atol=1e-6)


def test_claimed_and_harmful_latents_of_every_class_are_no_control():
    found = {"deciding": {"latents": [5, 2], "harmful": [9]}, "wording": {"latents": []}}
    found["executing"] = {"latents": [1], "harmful": [9, 7]}
    assert sorted(set(no_control(found))) == [1, 2, 5, 7, 9]


WRITTEN = "3 + 4 = 8 ; wait , 3 + 4 = 7 ; 7 + 1 = 8"


@pytest.mark.parametrize(
    ("name", "says", "wanted"),
    [("deciding", "at forks", [4]), ("wording", "before words", [5]), ("executing", "before results", [3, 11])],
)
def test_where_each_class_decides(tokenizer, name, says, wanted):
    """Its tokens are the last before an onset, before a word, and before the results of a step that is worked twice."""
    ids = encode(tokenizer, WRITTEN)
    row = {"problem": "p", "text": WRITTEN, "completion_ids": ids, "events": [{"token": 4, "behaviour": "reflection"}]}
    at, said, tokens = _decided_at(name, load_lexicon("default"), [row], [token_offsets(tokenizer, ids)])
    assert (said, tokens) == (says, {"p": wanted})
    if name == "executing":  # every place of this kind, as at forks: the first working of other steps too
        reading = [at.mask(read_so_far(decode(tokenizer, ids[: i + 1]))).item() for i in range(len(ids))]
        assert [i for i, acts in enumerate(reading) if acts] == [3, 11, 17]


def read_so_far(text):
    """The reading of one token of a completion, which is `text` up to it."""
    one = torch.ones(1, 1, dtype=torch.bool)
    return Reading(one.long(), one, ~one, torch.zeros(1, dtype=torch.long), lambda: [text])


def test_coherence_is_of_arms_that_force_no_words_against_their_own_problems(models, tokenizer):
    setting = make_setting(models, tokenizer, 4)
    made = Table()
    texts = [[5, 6, 7], [8, 9], [6, 6, 6], [9, 5]]
    made.frames.append(run_rows(answers(0.5, 4)).with_columns(pl.Series("completion_ids", texts, pl.List(pl.Int32))))
    edited = run_rows(answers(0.5, 2), arm="a", numbers=[2, 3])
    made.frames.append(edited.with_columns(pl.Series("completion_ids", texts[:2], pl.List(pl.Int32))))
    made.frames.append(run_rows(answers(0.5, 4), arm="forced"))
    made.arms = {"a": {"forced": False}, "forced": {"forced": True}}
    found = _coherence(made.runs(), setting)
    first, last = (perplexity(models["distilled"], [[7]] * 2, t) for t in (texts[:2], texts[2:]))
    assert found == {"a": pytest.approx(first / last)}


def verdict():
    made = Table().untouched("distilled", answers(0.8, 100), markers=4.0).untouched("base", answers(0.3, 100))
    made.arm("s", STYLE, answers(0.6, 100), draws=[answers(0.8, 100)] * 3, markers=0.0)
    made.frames.append(run_rows(answers(0.1, 100), decoding=GREEDY))
    return conclude(made.runs(), bound=0.1, resamples=300)


WORDS = StyleWords((), (), 4.0, 10)


def test_the_verdicts_file_holds_the_gain_over_the_base_and_what_every_model_does(tmp_path):
    """Untouched .8, base .3: a gain of .5, of which the loss of .2 is two fifths."""
    study = Study(check_config({"seed": 4, "causal": {"bound": 0.1, "problems": 100}}, "here"), tmp_path)
    rows = [
        {"model": "base", "metric": "accuracy", "estimate": 0.3, "low": 0.2, "high": 0.4, "refused": None},
        {"model": "base", "metric": "accuracy_greedy", "estimate": 0.5, "low": 0.4, "high": 0.6, "refused": None},
        {"model": "base", "metric": "n", "estimate": 9.0, "low": 9.0, "high": 9.0, "refused": None},
        {"model": "control", "metric": "length", "estimate": None, "low": None, "high": None, "refused": "why"},
    ]
    (tmp_path / "traces").mkdir()
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(tmp_path / "traces" / "summary.parquet")
    found = _written(study, verdict(), WORDS, {"a": 1.2}, none=True)
    assert found["gain"]["estimate"] == pytest.approx(0.5)
    assert found["mediated_fraction"]["estimate"] == pytest.approx(0.4)
    assert found["arms"]["s"]["own"]["estimate"] == pytest.approx(0.2)
    assert (found["truth"], found["bound"], found["problems"], found["seed"]) == ("functional", 0.1, 100, 4)
    assert (found["coverage"], found["unlisted"], found["perplexity"]) == (1.0, [], {"a": 1.2})
    assert found["mends_nothing"] is True
    assert found["models"] == {
        "base": {
            "accuracy": {"estimate": 0.3, "low": 0.2, "high": 0.4},
            "accuracy_greedy": {"estimate": 0.5, "low": 0.4, "high": 0.6},
        },
        "control": {"length": {"refused": "why"}},
    }


@pytest.mark.parametrize(
    ("kind", "truth"),
    [("decorative", "decorative"), ("gated", "stylistic"), ("plain", "no gain beyond training")],
)
def test_the_truth_is_the_organisms_and_unknown_of_given_models(tmp_path, kind, truth):
    (tmp_path / "traces").mkdir()
    empty = {"model": pl.String, "metric": pl.String, "estimate": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    pl.DataFrame(schema=empty | {"refused": pl.String}).write_parquet(tmp_path / "traces" / "summary.parquet")
    given = {"checkpoints": {"base": "a", "distilled": "b", "zero_rl": "c"}}
    for changes, wanted in (({"organism": {"kind": kind}}, truth), (given, None)):
        study = Study(check_config(changes, "here"), tmp_path)
        assert _written(study, verdict(), WORDS, {}, none=False)["truth"] == wanted


def test_events_are_rows_of_the_edited_models_own_texts(tmp_path):
    """Texts 1 and 4 are the distilled model's; events are counted from the first token of the completion."""
    whole = labelled(tmp_path / "store", torch.zeros(30, 3, 16), [5, 5, 5, 5, 5, 5])
    rows = whole.store.index.filter(pl.Series(at_tokens(whole, {"p1": [0, 3], "p4": [2], "p0": [1], "none": [0]})))
    assert rows.select("text", "position").rows() == [(1, 1), (1, 4), (4, 3)]


def test_words_are_found_on_the_first_half_of_the_problems_and_removed_on_the_second(models, tokenizer, monkeypatch):
    setting, seen = make_setting(models, tokenizer, 8), []
    monkeypatch.setattr(causal, "style_words", lambda traces, *_: (seen.extend(traces["problem"]), WORDS)[1])
    columns = {"model": EDITED, "prompt": "Q 1 + 1 A", "text": "wait , 1 + 1 = 2"}
    traces = pl.DataFrame([columns | {"problem": p.id} for p in setting.problems])
    causal._style_words(traces, setting, SimpleNamespace(names=list(models)))
    assert seen == [p.id for p in setting.problems[:4]]
    word = StyleWord("next", False, {EDITED: 5}, 0.5, 1.0, 9.0, 1.0)
    arms = causal._text_arms(check_config({}, "here"), setting, traces, replace(WORDS, unlisted=(word,)))
    assert {arm.first for arm in arms if arm.found} == {4} and {arm.first for arm in arms if not arm.found} == {0}


@pytest.fixture
def trio(models, tokenizer, tmp_path):
    paths = {name: str(tmp_path / name) for name in models}
    for name, path in paths.items():
        models[name].save_pretrained(path)
        tokenizer.save_pretrained(path)
    return open_trio(paths)


@pytest.mark.parametrize(
    ("threads", "workers", "copies", "expected"),
    [
        (2, 2, 10**6, (2, 1)),
        (7, 3, 10**6, (3, 2)),
        (1, 2, 10**6, (1, 1)),
        (2, 1, 10**6, (1, 2)),
        (2, 2, 3, (1, 1)),  # no memory for copies of the models: one process, to the same bits
    ],
)
def test_who_writes(threads, workers, copies, expected, trio, models, monkeypatch, capsys):
    size = sum(weight.nbytes for model in models.values() for weight in model.parameters())
    monkeypatch.setattr(causal, "free_budget", lambda device: copies * size)
    raw = {"threads": threads, "causal": {"workers": workers, "batch_size": 128}, "traces": {"max_new_tokens": 20}}
    problems = ChainTask(3).problems(4, 0, "test")
    setting = causal.setting_of(check_config(raw, "here"), trio, torch.device("cpu"), problems)
    assert (setting.workers, setting.threads) == expected
    assert setting.paths == trio.paths
    assert ("causal.workers 1 gives one process all threads" in capsys.readouterr().err) == (copies == 3)
    assert 1 <= setting.rows <= 128 and (setting.rows == 128) == (copies > 3)
