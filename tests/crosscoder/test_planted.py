"""The generator keeps its word, scores are right where the answer is plain, and a crosscoder finds what is there."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from interp.crosscoder import CrosscoderConfig, TrainConfig, train
from interp.crosscoder.planted import KINDS, NONE, Matched, PlantedConfig, match, plant, score_claims

SMALL = PlantedConfig(d_model=48, n_shared=24, n_exclusive=4, n_rescaled=9, frequencies=(0.03, 0.1), noise=0.03)


@pytest.fixture(scope="module")
def planted():
    return plant(PlantedConfig())


def of_kind(planted, kind):
    return planted.directions[torch.tensor([k == kind for k in planted.kind])]


def test_latents_are_laid_out_by_kind(planted):
    assert [planted.kind.count(kind) for kind in KINDS] == [160, 48, 48]
    assert planted.kind == tuple(sorted(planted.kind, key=KINDS.index))
    assert planted.owner[160:208].tolist() == [0] * 16 + [1] * 16 + [2] * 16
    assert (planted.owner[:160] == NONE).all() and (planted.owner[208:] == NONE).all()


def test_shared_latents_are_correlated_as_configured():
    for cosine in (0.0, 0.3, 0.8, 1.0):
        shared = of_kind(plant(PlantedConfig(correlation=cosine)), "shared")
        torch.testing.assert_close(shared.norm(dim=2), torch.ones(160, 3))
        products = torch.einsum("lmd,lnd->lmn", shared, shared)
        wanted = torch.full((3, 3), cosine).fill_diagonal_(1.0).expand(160, 3, 3)
        torch.testing.assert_close(products, wanted, atol=1e-5, rtol=0)


def test_exclusive_latents_are_absent_in_the_other_models(planted):
    norms = of_kind(planted, "exclusive").norm(dim=2)
    owner = planted.owner[planted.owner != NONE]
    torch.testing.assert_close(norms, torch.nn.functional.one_hot(owner, 3).float())
    alone = plant(PlantedConfig(n_shared=0, n_rescaled=0, noise=0.0, frequencies=(0.1, 0.1)))
    of_model_1 = normalize(alone.directions[16:32, 1], dim=1)
    rows = alone.rows(500, 0)
    # All that model 1 holds lies in the span of its own 16 directions; what the others hold does not.
    basis = torch.linalg.qr(of_model_1.T).Q
    outside = rows - rows @ basis @ basis.T
    assert outside[:, 1].abs().max() < 1e-4
    assert min(outside[:, 0].abs().max(), outside[:, 2].abs().max()) > 0.5


def test_rescaled_latents_have_one_direction_and_the_models_take_turns(planted):
    rescaled = of_kind(planted, "rescaled")
    unit = normalize(rescaled, dim=2)
    torch.testing.assert_close(unit, unit[:, :1].expand_as(unit))
    torch.testing.assert_close(
        rescaled.norm(dim=2).sort(1, descending=True).values, torch.tensor([[1, 0.5, 0.25]] * 48)
    )
    assert rescaled.norm(dim=2).argmax(1).bincount().tolist() == [16, 16, 16]


def test_frequencies_span_the_two_decades_and_are_what_rows_have():
    planted = plant(PlantedConfig(n_shared=400, n_exclusive=0, n_rescaled=0))
    logs = planted.frequency.log10()
    assert logs.min() >= -3 - 1e-6 and logs.max() <= -1 + 1e-6
    counts = torch.histc(logs, 4, -3, -1)
    assert counts.sum() == 400 and counts.min() > 60, "log-uniform"
    quiet = plant(PlantedConfig(d_model=64, n_shared=20, n_exclusive=0, n_rescaled=0, noise=0.0))
    flat = quiet.directions.flatten(1)
    f = quiet.rows(40_000, 0).flatten(1) @ torch.linalg.pinv(flat)
    seen, wanted = (f > 0.01).float().mean(0), quiet.frequency
    assert ((seen - wanted).abs() < 5 * (wanted * (1 - wanted) / 40_000).sqrt() + 1e-6).all()
    values = f[f > 0.01].log()
    assert abs(float(values.median())) < 0.03 and abs(float(values.std()) - 0.5) < 0.03


def test_noise_is_as_strong_as_configured_and_its_own_in_each_model():
    rows = plant(PlantedConfig(n_shared=0, n_exclusive=0, n_rescaled=1, noise=0.2, frequencies=(1e-6, 1e-6))).rows(
        4000, 0
    )
    assert float(rows.std()) == pytest.approx(0.2, rel=0.02)
    assert torch.corrcoef(rows.transpose(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.01


def test_seeds_decide_and_nothing_else(planted):
    again = plant(PlantedConfig())
    assert torch.equal(again.directions, planted.directions) and torch.equal(again.frequency, planted.frequency)
    rows = planted.rows(20_000, 7)
    assert rows.shape == (20_000, 3, 64) and torch.equal(rows, again.rows(20_000, 7))
    assert not torch.equal(rows[:100], planted.rows(100, 8))
    assert not torch.equal(rows[:1000], rows[16_384:17_384]), "one chunk is not the next one's repetition"
    other = plant(PlantedConfig(seed=1))
    assert not torch.equal(other.directions, planted.directions)
    assert not torch.equal(other.frequency, planted.frequency)


@pytest.mark.parametrize(
    "wrong",
    [
        {"factors": (1.0, 0.5)},
        {"factors": (1.0, 0.5, 0.0)},
        {"frequencies": (0.1, 0.01)},
        {"frequencies": (0.0, 0.1)},
        {"frequencies": (0.1, 1.1)},
        {"d_model": 3},
        {"correlation": 1.2},
        {"n_models": 1, "factors": (1.0,)},
    ],
)
def test_what_cannot_be_planted_is_refused(wrong):
    with pytest.raises(ValidationError):
        PlantedConfig(**wrong)


@pytest.mark.parametrize(
    "edge",
    [
        {"frequencies": (1e-9, 1.0)},
        {"frequencies": (0.1, 0.1)},
        {"factors": (1e-9, 1e-9, 1e-9)},
        {"d_model": 4},
        {"correlation": 1.0},
        {"correlation": 0.0},
        {"spread": 0.0, "noise": 0.0},
        {"n_shared": 0, "n_exclusive": 0, "n_rescaled": 0},
        {"n_models": 2, "factors": (1.0, 0.5), "d_model": 3},
    ],
)
def test_what_can_just_be_planted_is_accepted(edge):
    assert PlantedConfig.model_validate(edge).model_dump() == PlantedConfig().model_dump() | edge


def test_the_truth_itself_scores_one(planted):
    found = match(planted.directions, planted)
    assert found.recall == 1.0 and found.truth.tolist() == list(range(256))
    assert score_claims(planted.owner, found, planted) == (48, 1.0, 1.0)


def test_order_and_norms_do_not_matter_and_signs_do(planted):
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(256, generator=generator)
    norms = 10 ** (4 * torch.rand(256, 1, 1, generator=generator) - 2)
    junk = torch.randn(40, 3, 64, generator=generator)
    found = match(torch.cat([norms * planted.directions[order], junk, torch.zeros(1, 3, 64)]), planted)
    assert found.recall == 1.0
    assert torch.equal(found.truth, torch.cat([order, torch.full((41,), NONE)]))
    claimed = torch.cat([planted.owner[order], torch.full((41,), NONE)])
    assert score_claims(claimed, found, planted) == (48, 1.0, 1.0)
    turned = match(-planted.directions, planted)
    assert turned.recall == 0.0 and (turned.truth == NONE).all()


def test_wrong_claims_lower_precision_and_missing_ones_recall(planted):
    found = match(torch.cat([planted.directions, torch.ones(1, 3, 64)]), planted)
    right = torch.cat([planted.owner, torch.tensor([NONE])])
    cases = {
        "a shared latent": (0, 2, 48 / 49, 1.0),
        "a rescaled latent, for its strongest model": (208, 0, 48 / 49, 1.0),
        "an exclusive one, for another model": (160, 1, 47 / 48, 47 / 48),
        "no planted latent": (256, 1, 48 / 49, 1.0),
        "an exclusive one, for none": (160, NONE, 1.0, 47 / 48),
    }
    for name, (latent, model, precision, recall) in cases.items():
        claimed = right.clone()
        claimed[latent] = model
        score = score_claims(claimed, found, planted)
        assert (score.precision, score.recall) == pytest.approx((precision, recall)), name


def test_two_latents_that_are_the_same_planted_one_are_found_once(planted):
    twice = planted.directions[[160, 160]]
    found = match(twice, planted)
    assert found.recall == pytest.approx(1 / 256)
    assert score_claims(torch.tensor([0, 0]), found, planted) == (2, 1.0, pytest.approx(1 / 48))


def test_shares_of_nothing_are_nan(planted):
    found = match(planted.directions, planted)
    score = score_claims(torch.full((256,), NONE), found, planted)
    assert score.n_claims == 0 and math.isnan(score.precision) and score.recall == 0.0
    bare = plant(PlantedConfig(n_exclusive=0))
    assert math.isnan(score_claims(torch.zeros(208, dtype=torch.long), match(bare.directions, bare), bare).recall)


def test_recall_counts_cosines_above_nine_tenths():
    assert Matched(torch.tensor([0.95, 0.9, 0.89, 0.91]), torch.tensor([0])).recall == pytest.approx(0.5)


def test_a_cosine_at_the_bound_is_no_match_for_either(monkeypatch):
    config = PlantedConfig(n_models=2, d_model=3, n_shared=6, n_exclusive=0, n_rescaled=0, factors=(1.0, 0.5))
    axes = torch.eye(6).view(6, 2, 3)  # so that a cosine is exactly 1
    monkeypatch.setattr("interp.crosscoder.planted.RECOVERED", 1.0)
    found = match(axes, replace(plant(config), directions=axes))
    assert found.recall == 0.0 and (found.truth == NONE).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_crosscoder_finds_them_and_specificity_names_the_exclusive_ones(seed):
    planted = plant(SMALL.model_copy(update={"seed": seed}))
    shape = CrosscoderConfig(n_models=3, d_model=48, n_latents=72, k=3)
    recipe = TrainConfig(steps=800, batch_size=256, lr=1e-2, seed=seed, dead_after_rows=20_000)
    crosscoder = train(planted.rows(30_000, 0), shape, recipe)
    found = match(crosscoder.decoder_in_input_units(), planted)
    norms = crosscoder.W_dec.norm(dim=2)
    specificity = norms / norms.sum(1, keepdim=True)
    fires = (crosscoder.encode(planted.rows(4000, 1)) > 0).any(0)
    claimed = torch.where(fires & (specificity.amax(1) > 0.7), specificity.argmax(1), NONE)
    score = score_claims(claimed, found, planted)
    assert found.recall >= 0.85
    assert score.precision >= 0.75 and score.recall >= 0.75
