import pytest
import torch

from interp.activations.harvest import Harvest, Text, moved, padded, shared_columns
from interp.crosscoder import CrosscoderConfig, TrainConfig, train_many
from interp.models.sites import read_residual

PAD = 0


@pytest.fixture(scope="module")
def texts():
    rng = torch.Generator().manual_seed(0)
    lengths = [9, 3, 14, 5, 1, 14, 7]
    return [Text(torch.randint(3, 30, (n,), generator=rng).tolist(), "base", str(i), 1) for i, n in enumerate(lengths)]


def gathered(models, texts, **changes):
    settings = {"pad_id": PAD, "skip_first": 0, "masked_ids": (), "batch_size": 3} | changes
    batches = list(Harvest(models, texts, 1, **settings).batches())
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
            alone = read_residual(model, 1, input_ids=torch.tensor([t.ids]))[0, skip_first:]
            torch.testing.assert_close(resid[text == i][:, m], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("skip_first", "read"), [(40, 40), (45, 40), (33, 33), (20, 0), (60, 40)])
@torch.inference_mode()
def test_what_all_texts_begin_with_is_read_once_and_changes_no_row(models, texts, skip_first, read):
    shots = [5, 9, 14, 7, 3] * 8
    after = [Text([*shots, 3 + i, *t.ids], "base", str(i), 1) for i, t in enumerate(texts)]
    ids, kept = padded(after, PAD)
    kept[:, :skip_first] = False
    assert shared_columns(ids, kept) == (read if kept.any() else 0)
    resid, text, position, _ = gathered(models, after, skip_first=skip_first, batch_size=100)
    whole = [(i, p) for i, t in enumerate(after) for p in range(skip_first, len(t.ids))]
    assert list(zip(text.tolist(), position.tolist(), strict=True)) == whole
    for i, t in enumerate(after):
        for m, model in enumerate(models.values()):
            alone = read_residual(model, 1, input_ids=torch.tensor([t.ids]))[0, skip_first:]
            torch.testing.assert_close(resid[text == i][:, m], alone, atol=1e-4, rtol=1e-4)


def test_the_size_of_a_batch_changes_no_row(models, texts):
    one, all_ = gathered(models, texts, batch_size=1), gathered(models, texts, batch_size=100)
    for a, b in zip(one[1:], all_[1:], strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(one[0], all_[0], atol=1e-4, rtol=1e-4)


def test_nothing_is_kept_from_a_masked_token_on(models, texts):
    """What follows it has read it, and it means different things to the models."""
    masked = (texts[0].ids[4], texts[2].ids[0])
    _, text, position, token = gathered(models, texts, masked_ids=masked)
    kept = []
    for i, t in enumerate(texts):
        end = next((p for p, token in enumerate(t.ids) if token in masked), len(t.ids))
        kept += [(i, p) for p in range(end)]
    assert list(zip(text.tolist(), position.tolist(), strict=True)) == kept
    assert not set(masked) & set(token.tolist())


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
    stream = Harvest(models, texts * 40, 1, PAD, 16)
    together = torch.cat(list(stream))
    assert torch.equal(together, torch.cat(list(stream)))
    shape = CrosscoderConfig(n_models=len(models), d_model=together.shape[2], n_latents=64, k=6)
    recipe = TrainConfig(steps=120, batch_size=64, lr=3e-3, shuffle_rows=800)
    done = train_many(stream, [(shape, recipe)])[0]
    from_rows = train_many(together, [(shape, recipe)])[0]
    assert min(done.held_out.fve) > 0.5
    assert done.held_out.fve == pytest.approx(from_rows.held_out.fve, abs=0.1)


def test_moved_is_the_distance_from_the_first_model_over_its_norm():
    """Of (3, 4): (3, 4) is at 0, (3, 9) at 5 / 5, (0, 0) at 5 / 5; of (0, 2): (0, 2), (0, 3), (0, -2)."""
    resid = torch.tensor([[[3.0, 4.0], [3.0, 9.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 3.0], [0.0, -2.0]]])
    assert moved(resid).tolist() == [[0.0, 1.0, 1.0], [0.0, 0.5, 2.0]]
