"""The comparison in a world of sae-lens': what the world holds, and scores of dictionaries that are known."""

import pytest
import torch

from interp.crosscoder.planted import NONE
from tests.scripts import load_script

contestants = load_script("contestants")
terms = load_script("terms")
peer_runs = load_script("peer_runs")
outside = load_script("outside_judges")

OPTIONS = outside.Options(rows=1024, test_rows=2048, steps=1)


@pytest.fixture(scope="module")
def made():
    return outside.world(7, OPTIONS)


class Known:
    """A trainer whose latents are these, of these decoders in normalised space."""

    def __init__(self, decoder, f):
        self._decoder, self._f = decoder, f

    def update(self, x):
        pass

    def decoder(self):
        return self._decoder.flatten(1)

    def latents(self, x):
        """The next rows' activations: the held-out rows come in order."""
        here, self._f = self._f[: len(x)], self._f[len(x) :]
        return here


@pytest.fixture
def scores(monkeypatch):
    """The scores of the dictionary that a function gives for (world, scale of each model)."""
    world, _, _, scale = outside.prepared(7, OPTIONS)

    def of(make):
        monkeypatch.setattr(outside, "make", lambda *_: make(world, scale))
        return outside.measure(peer_runs.Entry("a", "b"), contestants.Recipe(1e-3, 1), 7, OPTIONS)

    return of


def test_a_third_of_the_features_are_of_one_model_each(made):
    alone = made.owner != NONE
    assert alone.sum() == 128 and torch.bincount(made.owner[alone]).tolist() == [43, 43, 42]
    norms = made.directions.norm(dim=2)
    torch.testing.assert_close(norms[~alone], torch.ones(256, 3))
    assert (norms[alone].argmax(1) == made.owner[alone]).all() and (norms[alone].sum(1) - 1).abs().max() < 1e-5
    shared = made.directions[~alone]
    assert torch.equal(shared[:, 0], shared[:, 1]) and torch.equal(shared[:, 0], shared[:, 2])
    assert 0.2 < alone[:252].double().mean() < 0.5, "those in the trees too"


def test_rows_are_made_of_the_active_features(made):
    rows = (made.active @ made.directions.flatten(1)).view_as(made.held_out)
    torch.testing.assert_close(made.held_out, rows, atol=1e-4, rtol=1e-4)
    assert (made.active > 0).sum(1).double().mean() == pytest.approx(5.6, abs=0.4)
    assert made.rows.shape == (1024, 3, 64)


def test_a_seed_is_a_world_and_draws_nothing_from_outside(made):
    state = torch.random.get_rng_state()
    again, other = outside.world(7, OPTIONS), outside.world(8, OPTIONS)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(made.rows, again.rows) and torch.equal(made.active, again.active)
    assert not torch.equal(made.rows, other.rows) and not torch.equal(made.owner, other.owner)


def test_the_features_themselves_have_every_score(made, scores):
    found = scores(lambda world, scale: Known(world.directions * scale[:, None], world.active))
    assert all(found[name] == pytest.approx(1.0) for name in ("found", "found_exclusive", "claims_precision"))
    assert all(found[name] == pytest.approx(1.0, abs=1e-5) for name in ("claims_recall", "mcc", "uniqueness"))
    fire = float((made.active > 0).any(0).double().mean())
    assert all(found[name] == pytest.approx(fire, abs=1e-6) for name in ("precision", "recall", "f1"))


def test_what_is_missing_is_missed(scores):
    """Without the exclusive features, half of the others twice."""

    def half(world, scale):
        shared = (world.owner == NONE).nonzero().flatten()[:128]
        chosen = torch.cat([shared, shared])
        return Known(world.directions[chosen] * scale[:, None], world.active[:, chosen])

    found = scores(half)
    assert (found["found"], found["found_exclusive"]) == (pytest.approx(1 / 3), 0.0)
    assert found["claims_recall"] == 0.0 and found["claims_precision"] != found["claims_precision"], "nothing claimed"
    assert found["uniqueness"] == pytest.approx(0.5) and found["precision"] > 0.9


def test_claims_follow_the_share_of_the_norm(scores):
    """A shared feature that a dictionary holds in one model alone is no match, and its claim is false."""

    def narrowed(world, scale):
        decoder = world.directions.clone()
        decoder[(world.owner == NONE).nonzero().flatten()[:64], 1:] = 0.0
        return Known(decoder * scale[:, None], world.active)

    found = scores(narrowed)
    assert found["claims_recall"] == pytest.approx(1.0)
    assert found["claims_precision"] == pytest.approx(128 / 192)
    assert found["found"] == pytest.approx(320 / 384)


def test_every_entry_is_tuned_over_as_many_settings():
    for recipe, n in zip(peer_runs.RECIPES, (6, 12, 12), strict=True):
        own = [set(outside.settings(peer_runs.Entry(trainer, recipe), 2000)) for trainer in outside.K_STARTS]
        assert {len(settings) for settings in own} == {n}
        assert all({s.aux_weight for s in settings} == ({None} if n == 6 else {1 / 32, 1.0}) for settings in own)
    assert not set(peer_runs.TUNING) & set(outside.Options().seeds)


def test_the_null_learns_no_decoder():
    shape = contestants.Shape(n_models=3, d_model=8, n_latents=32, k=2, batch=64, steps=40)
    engine = contestants.Engine(shape, contestants.Recipe(1e-2, 1), "float32", frozen=True)
    before, x = engine.decoder().clone(), torch.randn(64, 24, generator=torch.Generator().manual_seed(0))
    encoder = engine.encoder().clone()
    for _ in range(3):
        engine.update(x)
    assert torch.equal(engine.decoder(), before) and not torch.equal(engine.encoder(), encoder)


def test_latents_are_those_of_the_code():
    shape = contestants.Shape(n_models=2, d_model=8, n_latents=32, k=2, batch=64, steps=40)
    engine = contestants.make("interp, fp32", shape, contestants.Recipe(1e-2, 1, shared_init=0.5))
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    engine.update(x)
    f, (x_hat, n_active) = engine.latents(x), engine.code(x)
    assert ((f > 0).sum(1) == n_active).all() and int(n_active.sum()) == 128
    bias = engine._trainer.crosscoder.b_dec.detach().flatten()
    torch.testing.assert_close(f @ engine.decoder() + bias, x_hat)
