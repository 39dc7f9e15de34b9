from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csc_array
from small import small_crosscoder

from interp.activations.store import open_store
from interp.crosscoder import Crosscoder, CrosscoderConfig
from interp.features.behaviour import selection_half
from interp.features.catalogue import behaviours, per_model
from interp.features.codes import CHUNK, column, encode_sparse, size
from interp.features.contexts import AFTER_PEAK, BEFORE_PEAK, SCHEMA, contexts, listed
from interp.features.labelled import label_rows
from interp.names import BEHAVIOURS, REFLECTION, VERIFICATION
from interp.traces.labels import BEFORE, ELSEWHERE, INSIDE, MARKER, NONE

from .samples import labelled, sparse_rows


def test_a_sparse_code_is_the_dense_one_over_chunks():
    cc, x = small_crosscoder(), sparse_rows(CHUNK + 50).bfloat16()
    f = encode_sparse(cc, x)
    assert size(f) == (CHUNK + 50, 24)
    with torch.inference_mode():
        dense = cc.encode(x.float()).numpy()
    np.testing.assert_allclose(f.toarray(), dense, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("screened", [False, True])
def test_entries_at_the_threshold_are_those_of_the_whole_product(monkeypatch, screened):
    """The threshold is the score of an entry itself, so that many lie near it; screening by bfloat16 changes none."""
    monkeypatch.setattr("interp.crosscoder.encoder.SCREENED_FROM", 0)
    monkeypatch.setattr("interp.crosscoder.encoder._multiplies_bfloat16", lambda device: screened)
    cc, x = small_crosscoder(n_latents=64), sparse_rows(400)
    with torch.inference_mode():
        scores = cc.pre_activations(cc.normalise(x)).relu() * cc.decoder_norms()
        for rank in (1, 100, 5000):
            cc.threshold.fill_(float(scores.flatten().topk(rank).values[-1]) * (1 - 1e-6))
            dense = cc.encode(x)
            f = encode_sparse(cc, x)
            assert f.nnz == int((dense > 0).sum()) >= rank
            np.testing.assert_allclose(f.toarray(), dense.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
def test_a_sparse_code_of_every_gate_is_the_dense_one(monkeypatch, activation):
    monkeypatch.setattr("interp.features.codes.DENSE", 24 * 30)
    k = 4 if activation == "topk" else None
    cc = Crosscoder(CrosscoderConfig(n_models=3, d_model=16, n_latents=24, k=k, activation=activation), 0)
    x = sparse_rows(100)
    with torch.inference_mode():
        np.testing.assert_array_equal(encode_sparse(cc, x).toarray(), cc.encode(x).numpy())


def test_a_column_is_where_a_latent_is_active():
    dense = np.array([[0, 1.5], [0, 0], [0, 2.5]])
    rows, values = column(csc_array(dense), 1)
    assert np.issubdtype(rows.dtype, np.integer)
    assert rows.tolist() == [0, 2] and values.tolist() == [1.5, 2.5]
    assert len(column(csc_array(dense), 0)[0]) == 0


LENGTHS = [30, 41, 3, 60, 25, 12, 70, 33, 50]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    n = sum(max(0, length - 2) for length in LENGTHS)
    return labelled(tmp_path_factory.mktemp("features") / "store", sparse_rows(n), LENGTHS, skip_first=2)


@pytest.fixture(scope="module")
def f(data):
    rng = np.random.default_rng(0)
    n = len(data.row_model)
    return csc_array(rng.random((n, 5)) * (rng.random((n, 5)) < np.array([0.3, 0.02, 0.0, 0.9, 0.1])))


def test_contexts_by_brute_force(data, f, tokenizer):
    found = contexts(f, data, [0, 1, 2, 3], tokenizer, per_model=3)
    assert dict(found.schema) == SCHEMA
    dense, index = f.toarray(), data.store.index
    at = {(t, p): i for i, (t, p) in enumerate(zip(index["text"], index["position"], strict=True))}
    for j in range(4):
        for m, name in enumerate(data.store.names):
            best = []
            for t in range(m, len(LENGTHS), 3):
                places = [(dense[at[t, p], j], -p) for p in range(2, LENGTHS[t])]
                top, place = max(places, default=(0, 0))
                if top > 0:
                    best.append((top, t, -place))
            best = sorted(best, reverse=True)[:3]
            rows = found.filter((pl.col("latent") == j) & (pl.col("model") == name)).sort("rank").to_dicts()
            assert [r["problem"] for r in rows] == [f"p{t}" for _, t, _ in best]
            for r, (top, t, peak) in zip(rows, best, strict=True):
                window = range(max(0, peak - BEFORE_PEAK), min(LENGTHS[t], peak + AFTER_PEAK + 1))
                assert r["activations"] == [dense[at[t, p], j] if (t, p) in at else 0.0 for p in window]
                assert r["activations"][r["peak"]] == top
                ids = data.texts["ids"][t].to_list()
                assert r["tokens"] == [tokenizer.decode([ids[p]]) for p in window]


def test_confirmed_latents_are_listed_first_then_exclusive_then_frequent():
    latents = pl.DataFrame(
        {
            "latent": [0, 1, 2, 3, 4],
            "firing_rate": [0.5, 0.1, 0.2, 0.0, 0.3],
            "exclusive_to": [None, "base", None, "base", None],
            "confirmed_reflection": [False, False, True, True, False],
            "confirmed_verification": [False, False, False, False, False],
        }
    )
    assert listed(latents, 10) == [2, 1, 0, 4]
    assert listed(latents, 2) == [2, 1]


def test_rates_are_of_each_models_own_texts(data, f):
    table, dense = per_model(f, data), f.toarray()
    for name in data.store.names:
        own = dense[data.row_model == name]
        np.testing.assert_allclose(table[f"rate_{name}"].to_numpy(), (own > 0).mean(0))
        np.testing.assert_allclose(table[f"mean_{name}"].to_numpy(), own.mean(0))


def test_a_row_that_several_models_wrote_counts_for_each(tmp_path, f):
    n = f.shape[0]
    masks = np.random.default_rng(1).integers(0, 8, n).astype(np.uint8)
    data = labelled(tmp_path / "store", sparse_rows(n), LENGTHS, skip_first=2)
    data.store.index.with_columns(written_by=masks).write_parquet(data.store.folder / "index.parquet")
    data = replace(data, store=open_store(data.store.folder))
    table, dense = per_model(f, data), f.toarray()
    for bit, name in zip((1, 2, 4), data.store.names, strict=True):
        own = dense[(masks & bit) > 0]
        np.testing.assert_array_equal(data.written_by(name), (masks & bit) > 0)
        np.testing.assert_allclose(table[f"rate_{name}"].to_numpy(), (own > 0).mean(0))
        np.testing.assert_allclose(table[f"mean_{name}"].to_numpy(), own.mean(0))


def test_a_model_of_one_row_has_the_rates_of_that_row_and_one_without_rows_has_none(tmp_path, f):
    n, one = f.shape[0], int((f.toarray() > 0).sum(1).argmax())
    masks = np.where(np.arange(n) == one, 1, 2).astype(np.uint8)
    data = labelled(tmp_path / "store", sparse_rows(n), LENGTHS, skip_first=2)
    data.store.index.with_columns(written_by=masks).write_parquet(data.store.folder / "index.parquet")
    table, row = per_model(f, replace(data, store=open_store(data.store.folder))), f.toarray()[one]
    assert row.any()
    assert table["rate_base"].to_list() == (row > 0).tolist() and table["mean_base"].to_list() == row.tolist()
    assert table["rate_zero_rl"].to_list() == table["mean_zero_rl"].to_list() == [0.0] * 5


def behaving(folder, n_texts=120, length=30):
    """Positions 10 to 14 of the distilled model's texts verify, 12 of them at a marker; latent 0 fires there, latent
    1 at markers alone, latent 2 on the selection half's problems alone, latent 3 at random."""
    n, rng = n_texts * length, np.random.default_rng(0)
    position, text = np.tile(np.arange(length), n_texts), np.repeat(np.arange(n_texts), length)
    verify = np.full(n, ELSEWHERE, dtype="<U9")
    verify[(position >= 10) & (position < 15)] = INSIDE
    verify[position == 12] = MARKER
    nothing = np.where(verify == MARKER, MARKER, ELSEWHERE).astype("<U9")
    labels = {VERIFICATION: verify, REFLECTION: nothing}
    data = labelled(folder, sparse_rows(n), [length] * n_texts, label=labels)
    for values in labels.values():
        values[data.row_model != "distilled"] = NONE
    half = selection_half([f"p{t}" for t in text])
    dense = 0.1 * rng.random((n, 4)) * (rng.random((n, 4)) < 0.05)
    dense[:, 0] += (verify == INSIDE) * rng.random(n)
    dense[:, 1] += (verify == MARKER) * rng.random(n)
    dense[:, 2] += (verify == INSIDE) * half * rng.random(n)
    return data, csc_array(dense)


def test_planted_behaviour_latents_are_confirmed_and_the_others_are_not(tmp_path):
    data, f = behaving(tmp_path / "store")
    table = behaviours(f, data, auroc=0.7, q=0.01)
    assert table["confirmed_verification"].to_list() == [True, False, False, False]
    assert not table["confirmed_reflection"].any(), "it never occurs"
    assert table["auroc_verification"][2] > 0.9 > 0.6 > table["auroc_confirm_verification"][2]
    assert table["auroc_marker"][1] > 0.9
    assert table["auroc_verification"][1] < 0.6


def test_the_false_discovery_rate_is_of_the_selection_half_and_of_live_latents(tmp_path):
    """Latent 2 fires on the selection half alone; latents that never fire are no tests."""
    data, f = behaving(tmp_path / "store")
    found = behaviours(f, data, auroc=0.7, q=0.01)["q_verification"].to_numpy()
    assert found[2] < 0.01 < found[3]
    with_dead = csc_array(np.hstack([f.toarray(), np.zeros((f.shape[0], 20))]))
    padded = behaviours(with_dead, data, auroc=0.7, q=0.01)["q_verification"].to_numpy()
    assert padded[:4].tolist() == found.tolist()
    assert (padded[4:] == 1).all()


def test_too_few_positions_score_nothing(tmp_path):
    data, f = behaving(tmp_path / "store", n_texts=9)
    table = behaviours(f, data, auroc=0.7, q=0.01)
    assert table["auroc_verification"].to_list() == [0.5] * 4
    assert not table["confirmed_verification"].any()


def test_rows_are_placed_by_their_tokens(tmp_path, tokenizer):
    """Through files, as the stages do: prompt and other models' texts are NONE, the rest follows the spans."""
    prompt, completion = "Q 3 + 4 A", "3 + 4 = 8 , wait , 3 + 4 = 7 #### 7"
    prompt_ids, ids = (tokenizer.encode(t, add_special_tokens=False) for t in (prompt, completion))
    again = completion.index("3 + 4 = 7")
    spans = [
        {"start": completion.index(" , wait"), "end": again - 1, "label": REFLECTION},
        {"start": again, "end": again + 9, "label": VERIFICATION},
    ]
    marker = [{"start": completion.index("wait"), "end": completion.index("wait") + 4, "label": "realization"}]
    traces = pl.DataFrame(
        [
            {"problem": "p1", "model": m, "completion_ids": ids, "marker_spans": marker, "behaviour_spans": spans}
            for m in ("base", "distilled")
        ]
    )
    lengths = [len(prompt_ids + ids)] * 2
    fake = labelled(
        tmp_path / "store",
        sparse_rows(sum(lengths) - 4),
        lengths,
        skip_first=2,
        models=("base", "distilled", "zero_rl"),
    )
    texts = pl.DataFrame(
        [
            {"ids": prompt_ids + ids, "model": m, "problem": "p1", "completion_start": len(prompt_ids)}
            for m in ("base", "distilled")
        ]
    )
    data = label_rows(fake.store, texts, traces, tokenizer, "distilled")
    words, before = completion.split(), [NONE] * (len(prompt_ids) - 2)
    n_base = lengths[0] - 2
    for b in BEHAVIOURS:
        assert data.label[b][:n_base].tolist() == [NONE] * n_base
    assert words.index("wait") == 6
    verify = [BEFORE] * 6 + [MARKER] + [BEFORE] + [INSIDE] * 5 + [ELSEWHERE] * 2
    reflect = [BEFORE] * 5 + [INSIDE, MARKER, INSIDE] + [ELSEWHERE] * 7
    assert data.label[VERIFICATION][n_base:].tolist() == before + verify
    assert data.label[REFLECTION][n_base:].tolist() == before + reflect
    assert data.at_marker().sum() == 1
    assert data.in_any(INSIDE).sum() == 7
    assert data.in_all(ELSEWHERE).sum() == 2
    assert data.row_model.tolist() == ["base"] * n_base + ["distilled"] * n_base
