"""What latents do to a decision, against whole forwards edited by hand and against planted linear margins."""

import copy
from dataclasses import replace

import pytest
import torch
from causal.whole import activation, last_logits, trio
from small import code64, small_crosscoder

from interp.features.attribution import Decision, Side, decide, exact_effects, integrated_gradients
from interp.features.contrasts import WRONG_RIGHT, Contrast, Pair
from interp.features.margin import Margin
from interp.models.hooks import Site
from interp.models.prefixes import Prefixes

SITES = [Site(1, "resid_mid"), Site(1, "resid_post")]
MARGIN = Margin((20, 22), (19, 21), 1.0, 1.0)


def pairs_of(n=5):
    draw = torch.Generator().manual_seed(0)
    sides = [[torch.randint(3, 30, (3 + i,), generator=draw).tolist() for i in range(n)] for _ in range(2)]
    return [Pair(f"p{i}", first, second) for i, (first, second) in enumerate(zip(*sides, strict=True))]


PAIRS = pairs_of()
CONTRAST = Contrast(WRONG_RIGHT, PAIRS, MARGIN)


def decided(kind="qwen2", site=SITES[1], subject="distilled"):
    return decide(trio(kind), subject, small_crosscoder(), site, CONTRAST, 0, batch_size=2)


def rows(side):
    return [getattr(pair, side) for pair in PAIRS]


def alone(model, ids, site):
    return activation(model, site.layer, site.name, tuple(ids))[-1]


def by_hand(model, ids, site, added):
    """Logits of a whole forward with `added` put to the last position's activation at a site."""
    return last_logits(model, ids, site.layer, site.name, lambda h: torch.cat([h[:-1], h[-1:] + added]))


def one(crosscoder, slot, latent):
    """What one unit of a latent adds to the model in a slot, in its units and in float64."""
    return crosscoder.W_dec[latent, slot].double() / crosscoder.scale[slot].double()


# Reading


@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)], ids=str)
def test_the_models_are_read_in_the_crosscoders_order(order, site):
    models, crosscoder = trio("qwen2"), small_crosscoder()
    names = [list(models)[i] for i in order]
    found = decide({name: models[name] for name in names}, "distilled", crosscoder, site, CONTRAST, 0, batch_size=2)
    slot = names.index("distilled")
    assert (found.slot, found.site, found.margin) == (slot, site, MARGIN)
    assert found.decoder.shape == (24, 16)
    for latent, decoder in enumerate(found.decoder):
        torch.testing.assert_close(decoder.double(), one(crosscoder, slot, latent))
    for side, name in ((found.positive, "positive"), (found.negative, "negative")):
        x = torch.stack([torch.stack([alone(models[m], ids, site) for m in names]) for ids in rows(name)])
        torch.testing.assert_close(side.h, x[:, slot], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(side.f.double(), code64(crosscoder, x), atol=1e-3, rtol=1e-5)
        assert 0 < (side.f > 0).sum() < side.f.numel()


@pytest.mark.parametrize("subject", ["base", "zero_rl"])
def test_the_subjects_own_prefixes_are_kept(subject):
    found = decided(subject=subject)
    wanted = [by_hand(trio("qwen2")[subject], ids, SITES[1], 0) for ids in rows("negative")]
    torch.testing.assert_close(found.logits(found.negative), torch.stack(wanted), atol=1e-4, rtol=1e-4)


def test_a_contrast_without_a_margin_is_refused():
    with pytest.raises(ValueError, match="wrong / right: no token tells its sides apart"):
        decide(trio("qwen2"), "distilled", small_crosscoder(), SITES[1], Contrast(WRONG_RIGHT, PAIRS, None), 0)


# Edits


@pytest.mark.parametrize("to", [None, (0.0, 3.0, 0.5)], ids=["to zero", "to values"])
@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
def test_latents_are_set_as_in_a_whole_forward(kind, site, to):
    """And the crosscoder's error is kept: only the chosen latents' decoders are added."""
    found, model = decided(kind, site), trio(kind)["distilled"]
    for side, name in ((found.positive, "positive"), (found.negative, "negative")):
        latents = [*side.f.sum(0).topk(2).indices.tolist(), 3]
        got = found.logits(side, latents, None if to is None else torch.tensor(to))
        for i, ids in enumerate(rows(name)):
            steps = [(to or (0, 0, 0))[k] - float(side.f[i, j]) for k, j in enumerate(latents)]
            added = sum(step * one(found.crosscoder, 1, j) for step, j in zip(steps, latents, strict=True))
            torch.testing.assert_close(got[i], by_hand(model, ids, site, added).float(), atol=2e-3, rtol=1e-3)
        assert (got - found.logits(side)).abs().max() > 0.1


def test_latents_set_to_what_they_are_change_nothing():
    found = decided()
    same = found.positive.f[0]
    row = Side(Prefixes(trio("qwen2")["distilled"], rows("positive")[:1], 0), found.positive.h[:1], same[None])
    assert torch.equal(found.logits(row, list(range(24)), same), found.logits(row))
    assert torch.equal(found.logits(row, []), found.logits(row))


@pytest.mark.parametrize("site", SITES, ids=str)
def test_effects_are_whole_forwards_with_a_latent_at_its_mean_on_the_negative_side(site):
    found, model = decided(site=site), trio("qwen2")["distilled"]
    latents = [5, *range(24)]

    def mean_margin(latent=None):
        f, means = found.positive.f, found.negative.f.mean(0)
        changes = means[latent] - f[:, latent] if latent is not None else [0.0] * len(PAIRS)
        added = [float(change) * one(found.crosscoder, 1, latent or 0) for change in changes]
        logits = [by_hand(model, ids, site, a) for ids, a in zip(rows("positive"), added, strict=True)]
        return MARGIN.of(torch.stack(logits).double()).mean()

    wanted = torch.stack([mean_margin() - mean_margin(j) for j in latents])
    effects = exact_effects(found, latents)
    torch.testing.assert_close(effects.double(), wanted, atol=1e-3, rtol=1e-3)
    silent = ((found.positive.f == 0).all(0) & (found.negative.f == 0).all(0))[latents]
    assert 0 < silent.sum() < len(latents)
    assert (effects[silent] == 0).all() and (effects[~silent] != 0).all()
    assert exact_effects(found, []).tolist() == []


# Integrated gradients


@pytest.mark.parametrize(
    ("kind", "site", "from_zero"),
    [("qwen2", SITES[0], False), ("qwen2", SITES[1], True), ("gpt2", SITES[0], True), ("gpt2", SITES[1], False)],
    ids=str,
)
def test_attributions_add_up_to_the_change_of_the_margin(kind, site, from_zero):
    """From the negative code, or from none, to the positive one in the positive prefix, the error being kept."""
    found, model = decided(kind, site), trio(kind)["distilled"]
    decoders = torch.stack([one(found.crosscoder, 1, j) for j in range(24)])
    start = torch.zeros_like(found.positive.f) if from_zero else found.negative.f
    moved = (start - found.positive.f).double() @ decoders
    there, back = (
        torch.stack([by_hand(model, ids, site, a) for ids, a in zip(rows("positive"), added, strict=True)])
        for added in (torch.zeros_like(moved), moved)
    )
    most = (there - back).mean(0)
    margin = Margin((int(most.argmax()), 20), (int(most.argmin()), 21), 1.0, 1.0)
    found, wanted = replace(found, margin=margin), float((margin.of(there) - margin.of(back)).mean())
    coarse, fine = (float(integrated_gradients(found, n, from_zero=from_zero).sum()) for n in (1, 64))
    assert wanted > 0.5
    assert fine == pytest.approx(wanted, rel=0.01)
    assert abs(fine - wanted) < abs(coarse - wanted)


def linear(dtype=torch.float32):
    """A model whose logits are linear in its last residual, and the gradient there of log p(20) - log p(19)."""
    model = copy.deepcopy(trio("qwen2")["distilled"]).to(dtype)
    model.model.norm = torch.nn.Identity()
    weight = model.lm_head.weight
    return model, (weight[20] - weight[19]).double()


@pytest.mark.parametrize("steps", [1, 7])
def test_of_a_linear_margin_every_attribution_is_exact(steps):
    """On codes planted by hand: a latent that pushes towards the behaviour, one away from it, one across, one that
    fires on both sides, one on the negative side alone, and one that is silent."""
    model, gradient = linear()
    crosscoder, prefixes = small_crosscoder().requires_grad_(), Prefixes(model, rows("positive"), 0, 2)
    unit = gradient / gradient.norm()
    across = torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    across -= (across @ unit) * unit
    directions = torch.stack([unit, -unit, across, unit, unit, unit])
    crosscoder.W_dec.data[:6, 1] = (directions * crosscoder.scale[1]).float()
    f, other = torch.zeros(2, 5, 24)
    f[:, :4] = torch.tensor([2.0, 3.0, 5.0, 4.0])
    f[0, 0] = 7.0
    other[:, 3:5] = torch.tensor([1.5, 1.0])
    h = prefixes.read([Site(2)])[Site(2)]
    found = Decision(
        crosscoder, Site(2), 1, Margin((20,), (19,), 1.0, 1.0), Side(prefixes, h, f), Side(prefixes, h, other)
    )
    size = float(gradient.norm())
    attributions = integrated_gradients(found, steps)
    expected = torch.tensor([3.0 * size, -3.0 * size, 0.0, 2.5 * size, -1.0 * size, 0.0])
    torch.testing.assert_close(attributions[:6], expected, atol=1e-3, rtol=1e-4)
    assert (attributions[5:] == 0).all() and not attributions.requires_grad
    torch.testing.assert_close(exact_effects(found, range(6)), expected, atol=1e-2, rtol=1e-4)
    foretold, of_one_side = integrated_gradients(found, steps, from_zero=True), [3.0, -3.0, 0.0, 4.0, 0.0, 0.0]
    torch.testing.assert_close(foretold[:6], torch.tensor(of_one_side) * size, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_linear_margin_is_attributed_in_the_models_precision(dtype):
    """The crosscoder's own code, in the slot of a subject that is neither first nor last; bfloat16 has 8 bits."""
    model, gradient = linear(dtype)
    models, crosscoder = trio("qwen2") | {"distilled": model}, small_crosscoder()
    contrast = Contrast(WRONG_RIGHT, PAIRS, Margin((20,), (19,), 1.0, 1.0))
    found = decide(models, "distilled", crosscoder, Site(2), contrast, 0)
    difference = (found.positive.f - found.negative.f).double().mean(0)
    wanted = torch.stack([difference[j] * (one(crosscoder, 1, j) @ gradient) for j in range(24)])
    attributions = integrated_gradients(found, 2)
    bits = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(attributions.double(), wanted, atol=bits * float(wanted.abs().max()), rtol=bits)
