from dataclasses import replace

import numpy as np
import pytest
import torch
from small import residual

from interp.activations.harvest import Harvest, moved, padded, shared_columns
from interp.activations.texts import Text
from interp.crosscoder import CrosscoderConfig, TrainConfig, train_many
from interp.models.hooks import Site

PAD = 0


@pytest.fixture(scope="module")
def texts():
    rng = torch.Generator().manual_seed(0)
    lengths = [9, 3, 14, 5, 1, 14, 7]
    return [Text(torch.randint(3, 30, (n,), generator=rng).tolist(), "base", str(i), 1) for i, n in enumerate(lengths)]


def gathered(models, texts, **changes):
    settings = {"pad_id": PAD, "skip_first": 0, "masked_ids": (), "batch_size": 3} | changes
    batches = list(Harvest(models, texts, Site(1), **settings).batches())
    return [torch.cat([getattr(b, key) for b in batches]) for key in ("resid", "text", "position", "token")]


@pytest.mark.parametrize("skip_first", [0, 2, 4])
@torch.inference_mode()
def test_rows_are_the_residuals_of_each_text_read_alone(models, texts, skip_first):
    resid, text, position, token = gathered(models, texts, skip_first=skip_first)
    kept = [(i, p) for i, t in enumerate(texts) for p in range(skip_first, len(t.ids))]
    assert list(zip(text.tolist(), position.tolist(), strict=True)) == kept
    assert token.tolist() == [texts[i].ids[p] for i, p in kept]
    for i, t in enumerate(texts):
        for m, model in enumerate(models.values()):
            alone = residual(model, 1, input_ids=torch.tensor([t.ids]))[0, skip_first:]
            torch.testing.assert_close(resid[text == i][:, m], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("skip_first", "read"), [(40, 40), (45, 40), (33, 33), (20, 0)])
@torch.inference_mode()
def test_what_all_texts_begin_with_is_read_once_and_changes_no_row(models, texts, skip_first, read):
    shots = [5, 9, 14, 7, 3] * 8
    after = [Text([*shots, 3 + i, *t.ids], "base", str(i), 1) for i, t in enumerate(texts)]
    reading = padded([t.ids for t in after], [np.arange(len(t.ids)) >= skip_first for t in after], PAD)
    assert shared_columns(reading) == read
    resid, text, position, _ = gathered(models, after, skip_first=skip_first, batch_size=100)
    whole = [(i, p) for i, t in enumerate(after) for p in range(skip_first, len(t.ids))]
    assert list(zip(text.tolist(), position.tolist(), strict=True)) == whole
    for i, t in enumerate(after):
        for m, model in enumerate(models.values()):
            alone = residual(model, 1, input_ids=torch.tensor([t.ids]))[0, skip_first:]
            torch.testing.assert_close(resid[text == i][:, m], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shots", [0, 40])
def test_further_sites_are_read_in_the_same_pass(models, texts, shots):
    """Before and after the site that is read, also where a beginning is shared: the bits of a pass of their own."""
    after = [Text([*([5, 9, 14, 7, 3] * 8)[:shots], *t.ids], "base", str(i), 1) for i, t in enumerate(texts)]
    sites = (Site(0), Site(1, "resid_mid"), Site(2))
    together = list(Harvest(models, after, Site(1), PAD, 4, skip_first=shots, also=sites).batches())
    for site in (Site(1), *sites):
        alone = list(Harvest(models, after, site, PAD, 4, skip_first=shots).batches())
        for one, all_ in zip(alone, together, strict=True):
            assert torch.equal(one.resid, all_.resid if site == Site(1) else all_.also[site])
            assert torch.equal(one.text, all_.text) and torch.equal(one.position, all_.position)


def test_texts_of_which_nothing_is_kept_are_not_read(models, texts):
    assert list(Harvest(models, texts, Site(1), PAD, 3, skip_first=14).batches()) == []
    (batch,) = Harvest(models, texts, Site(1), PAD, 3, skip_first=9).batches()
    assert batch.text.tolist() == [2] * 5 + [5] * 5


def test_the_size_of_a_batch_changes_no_row(models, texts):
    one, all_ = gathered(models, texts, batch_size=1), gathered(models, texts, batch_size=100)
    for a, b in zip(one[1:], all_[1:], strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(one[0], all_[0], atol=1e-4, rtol=1e-4)


def test_only_the_positions_of_masked_tokens_are_left_out(models, texts):
    masked = (texts[0].ids[4], texts[2].ids[0])
    _, text, position, token = gathered(models, texts, masked_ids=masked)
    kept = [(i, p) for i, t in enumerate(texts) for p, token in enumerate(t.ids) if token not in masked]
    assert list(zip(text.tolist(), position.tolist(), strict=True)) == kept
    assert not set(masked) & set(token.tolist())
    assert (0, 5) in kept, "what follows is kept"


def test_padding_may_share_its_id_with_a_token(models, texts):
    """Where there is no padding token the end token fills, and a text may hold it."""
    with_end = [Text([5, 7, 7, 6], "base", "x", 1), Text([7, 5], "base", "y", 1)]
    _, text, _, token = gathered(models, with_end, pad_id=7)
    assert token.tolist() == [5, 7, 7, 6, 7, 5]
    assert text.tolist() == [0, 0, 0, 0, 1, 1]
    _, text, _, _ = gathered(models, with_end, pad_id=7, masked_ids=(6,))
    assert text.tolist() == [0, 0, 0, 1, 1]


def test_a_crosscoder_trains_while_residuals_are_read(models, texts):
    """Without a store: the same rows, started anew as often as the steps need."""
    stream = Harvest(models, texts * 40, Site(1), PAD, 16)
    together = torch.cat(list(stream))
    assert torch.equal(together, torch.cat(list(stream)))
    shape = CrosscoderConfig(n_models=len(models), d_model=together.shape[2], n_latents=64, k=6)
    recipe = TrainConfig(steps=120, batch_size=64, lr=3e-3, shuffle_rows=800)
    done = train_many(stream, [(shape, recipe)])[0]
    from_rows = train_many(together, [(shape, recipe)])[0]
    assert min(done.held_out.fve) > 0.5
    assert done.held_out.fve == pytest.approx(from_rows.held_out.fve, abs=0.1)


def with_own_prompts(texts):
    """The first model's prompt is one token longer than the second's, the third's much longer; every other text."""
    own = [([3, 4, 5], [6, 7], [8, 9, 10, 11, 12, 13]), ([4, 4, 4], [5, 5], [5, 4, 3, 4, 5, 6])]
    return [
        t if i % 2 else Text([*own[i // 2 % 2][1], *t.ids], "base", t.problem, 2, own[i // 2 % 2])
        for i, t in enumerate(texts)
    ]


@pytest.mark.parametrize("masked", [(), (12,)])
@torch.inference_mode()
def test_where_prompts_differ_each_model_reads_its_own_and_the_completion_is_kept(models, texts, masked):
    apart = with_own_prompts(texts)
    resid, text, position, token = gathered(models, apart, skip_first=1, masked_ids=masked)
    kept = [
        (i, p)
        for i, t in enumerate(apart)
        for p in range(t.completion_start if t.prompts else 1, len(t.ids))
        if t.ids[p] not in masked
    ]
    assert list(zip(text.tolist(), position.tolist(), strict=True)) == kept
    assert token.tolist() == [apart[i].ids[p] for i, p in kept]
    assert any(t.prompts for t in apart) and not all(t.prompts for t in apart)
    for row, (i, p) in enumerate(kept):
        t = apart[i]
        for m, model in enumerate(models.values()):
            read = [*t.prompts[m], *t.ids[t.completion_start :]] if t.prompts else t.ids
            alone = residual(model, 1, input_ids=torch.tensor([read]))[0, p + len(read) - len(t.ids)]
            torch.testing.assert_close(resid[row, m], alone, atol=1e-4, rtol=1e-4)


def test_a_prefix_that_an_earlier_text_holds_is_not_read_again(models, texts):
    whole, text, position, _ = gathered(models, texts)
    again = [replace(t, fresh=i) for i, t in enumerate(texts)]
    rows, text_again, position_again, _ = gathered(models, again)
    new = position >= text
    assert torch.equal(text_again, text[new]) and torch.equal(position_again, position[new])
    torch.testing.assert_close(rows, whole[new], atol=1e-4, rtol=1e-4)


def test_moved_by_hand():
    """Rows of (3, 4), length 5: unmoved, moved by (0, 5), and turned round; and a row of length 1."""
    resid = torch.tensor(
        [[[3.0, 4.0], [3.0, 4.0], [3.0, 9.0]], [[3.0, 4.0], [-3.0, -4.0], [6.0, 8.0]], [[0.0, 1.0], [0.5, 1.0], [0, 0]]]
    )
    assert moved(resid).tolist() == [[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.5, 1.0]]
    assert moved(resid[:, [1, 0, 2]])[1].tolist() == [0.0, 2.0, 3.0], "the first model is what all are compared with"
    assert moved(100 * resid).tolist() == moved(resid).tolist()
