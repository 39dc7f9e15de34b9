"""What splicing a reconstruction in does to the models, against runs edited by hand."""

import polars as pl
import pytest
import torch
from small import residual, small_crosscoder

from interp.activations.harvest import Harvest
from interp.activations.store import StoreWriter, open_store
from interp.activations.texts import Text, write_texts
from interp.features.splice import held_out_texts, splice
from interp.models.hooks import Site, changing

LAYER = 1


@pytest.fixture(scope="module")
def texts():
    rng = torch.Generator().manual_seed(0)
    return [Text(torch.randint(3, 30, (n,), generator=rng).tolist(), "base", str(n), 1) for n in (9, 14, 4, 3, 1, 7)]


def source(models, texts):
    return Harvest(models, texts, Site(LAYER), pad_id=0, batch_size=4, skip_first=0 if texts[0].prompts else 2)


def perfect(n_models):
    """A dictionary that loses nothing."""
    cc = small_crosscoder(n_models=n_models)
    cc.mean.zero_()
    cc.encode = lambda x: x
    cc.decode = lambda f: f
    return cc


def by_hand(models, texts, replacement):
    """(untouched loss, edited loss, KL) of every model, one text at a time; `replacement(x, slot)` gives rows. What is
    kept follows two tokens, or the prompt where the models' prompts differ."""
    found = {}
    for slot, (name, model) in enumerate(models.items()):
        rows = []
        for text in texts:
            read = [torch.tensor([text.read_by(m)]) for m in range(len(models))]
            starts = [len(prompt) for prompt in text.prompts] or [2] * len(models)
            x = torch.stack(
                [
                    residual(m, LAYER, input_ids=ids)[0, start:]
                    for m, ids, start in zip(models.values(), read, starts, strict=True)
                ],
                dim=1,
            )
            ids, start = read[slot], starts[slot]

            def edit(h, x=x, slot=slot, start=start):
                h = h.clone()
                h[0, start:] = replacement(x, slot)
                return h

            clean = model(input_ids=ids).logits[0].double().log_softmax(-1)[start:-1]
            with changing(model, {Site(LAYER): edit}):
                edited = model(input_ids=ids).logits[0].double().log_softmax(-1)[start:-1]
            target = ids[0, start + 1 :, None]
            kl = (clean.exp() * (clean - edited)).sum(-1)
            rows += [
                torch.stack([-a, -b, c])
                for a, b, c in zip(clean.gather(1, target)[:, 0], edited.gather(1, target)[:, 0], kl, strict=True)
            ]
        found[name] = torch.stack(rows).mean(0)
    return found


def apart(texts):
    """The same completions after prompts that differ by model."""
    return [Text([7, *t.ids], "base", t.problem, 1, ([8, 9], [7], [4, 5, 6])) for t in texts]


@pytest.mark.parametrize("differ", [False, True], ids=["one prompt", "prompts of their own"])
@torch.inference_mode()
def test_every_number_is_that_of_runs_edited_by_hand(models, texts, differ):
    texts = apart(texts) if differ else texts
    cc = small_crosscoder(n_models=len(models))
    measured = splice(cc, source(models, texts))
    arms = {
        "spliced": lambda x, slot: cc.decode(cc.encode(x))[:, slot],
        "zero": lambda x, slot: torch.zeros_like(x[:, slot]),
        "error only": lambda x, slot: cc.mean[slot] + x[:, slot] - cc.decode(cc.encode(x))[:, slot],
    }
    wanted = {arm: by_hand(models, texts, replacement) for arm, replacement in arms.items()}
    for name, found in measured.items():
        assert found.n_tokens == sum(max(0, len(t.ids) - (2 if differ else 3)) for t in texts)
        zero = float(wanted["zero"][name][1])
        for arm, result in found.arms.items():
            untouched, loss, kl = wanted[arm][name].tolist()
            assert found.untouched_loss == pytest.approx(untouched, abs=1e-4)
            assert (result.loss, result.kl) == pytest.approx((loss, kl), abs=1e-4)
            if zero > untouched:
                assert result.loss_recovered == pytest.approx((zero - loss) / (zero - untouched), rel=1e-2, abs=1e-2)
        assert found.arms["zero"].kl > 0


@torch.inference_mode()
def test_a_beginning_that_all_texts_share_is_read_once_and_changes_no_number(models, texts, monkeypatch):
    after = [Text([5, 9, 14, 7, 3] * 8 + t.ids, "base", t.problem, 1) for t in texts]
    long = Harvest(models, after, Site(LAYER), pad_id=0, batch_size=4, skip_first=40)
    cc = small_crosscoder(n_models=len(models))
    once = splice(cc, long)
    monkeypatch.setattr("interp.traces.tokens.SHARED", 10**9)
    for name, apart in splice(cc, long).items():
        assert once[name].n_tokens == apart.n_tokens > 0
        assert once[name].untouched_loss == pytest.approx(apart.untouched_loss, abs=1e-5)
        for arm, found in apart.arms.items():
            assert (once[name].arms[arm].loss, once[name].arms[arm].kl) == pytest.approx(
                (found.loss, found.kl), abs=1e-5
            )


@torch.inference_mode()
def test_a_perfect_dictionary_changes_nothing(models, texts):
    for found in splice(perfect(len(models)), source(models, texts)).values():
        assert found.arms["spliced"].loss == pytest.approx(found.untouched_loss, abs=1e-6)
        assert found.arms["spliced"].kl == pytest.approx(0, abs=1e-6)
        assert found.arms["error only"].loss == pytest.approx(found.arms["zero"].loss, abs=1e-6)


def test_held_out_texts_are_those_of_the_held_out_rows(tmp_path, texts):
    """Text 3 has no row: all of it is in another text."""
    writer = StoreWriter(tmp_path, ["base"], "blocks.1.hook_resid_post", 100)
    writer.add(torch.zeros(6, 1, 4))
    writer.close(pl.DataFrame({"text": [0, 0, 1, 2, 4, 4], "held_out": [False, False, True, False, True, True]}))
    write_texts(texts, tmp_path / "texts.parquet")
    assert [t.ids for t in held_out_texts(open_store(tmp_path))] == [texts[1].ids, texts[4].ids]
