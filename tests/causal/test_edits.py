"""What edits are: formulas of single activations, their names and claims, and what does not fit."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import D_MODEL, code64, small_crosscoder

from interp.causal.edits import (
    Add,
    Both,
    NoEdit,
    SetComponent,
    ablate,
    add_decoder_difference,
    affirm,
    amplify,
    ban,
    error_only,
    insert,
    patch_from,
    reconstruction_only,
    substitute,
    transplant,
    zero,
)
from interp.causal.edits.echo import Echo, Redraw
from interp.causal.edits.latents import LatentEdit, Revalued
from interp.causal.edits.patches import set_heads
from interp.causal.places import COMPLETION, FORKS
from interp.causal.run import check_edit
from interp.causal.setting import Setting
from interp.errors import InterpError
from interp.models.hooks import SITES, Site
from interp.names import COMPARED
from interp.tasks.chains import ChainTask
from interp.traces.lexicon import load_lexicon

CC = small_crosscoder()
LEXICON = load_lexicon("default")
SITE = Site(1)
VECTOR = torch.cos(torch.arange(D_MODEL).float())


def activations(n=50, seed=3):
    return 3 * torch.randn(n, 3, D_MODEL, generator=torch.Generator().manual_seed(seed))


def changed(edit, x, model="distilled"):
    """`change` of the edited model's activations."""
    others = {name: x[:, i] for i, name in enumerate(COMPARED)}
    return edit.change(others[model], others)


def close(found, wanted):
    torch.testing.assert_close(found.double(), wanted, atol=2e-4, rtol=2e-4)


@given(seed=st.integers(0, 200), slot=st.integers(0, 2), latents=st.sets(st.integers(0, 23), min_size=1))
@settings(max_examples=10)
def test_a_factor_of_one_changes_nothing_at_all(seed, slot, latents):
    x = activations(20, seed)
    edit = amplify(CC, sorted(latents), 1.0, 1, model=COMPARED[slot])
    assert torch.equal(changed(edit, x, COMPARED[slot]), x[:, slot])


@pytest.mark.parametrize("factor", [0.0, 3.0, -1.0])
@pytest.mark.parametrize("slot", [0, 1, 2])
def test_the_change_is_the_sum_of_the_latents_changes_in_input_units(slot, factor):
    x, chosen = activations(), [2, 5, 7, 19]
    f = code64(CC, x)
    assert (f[:, chosen] > 0).any(0).all(), "a latent that never fires would test nothing"
    wanted = x[:, slot].double()
    for j in chosen:
        wanted = wanted + (factor - 1) * f[:, j, None] * CC.W_dec[j, slot].double() / CC.scale[slot].double()
    close(changed(amplify(CC, chosen, factor, 1, model=COMPARED[slot]), x, COMPARED[slot]), wanted)
    if factor == 0:
        close(changed(ablate(CC, chosen, 1, model=COMPARED[slot]), x, COMPARED[slot]), wanted)


def test_rows_in_which_no_latent_is_on_keep_their_bits():
    x, chosen = activations(200), [2, 5]
    off = (code64(CC, x)[:, chosen] == 0).all(1)
    assert 10 < off.sum() < 190
    edits = (
        ablate(CC, chosen, 1),
        amplify(CC, chosen, 3.0, 1),
        add_decoder_difference(CC, chosen, 1, toward="base", model="distilled"),
    )
    for edit in edits:
        new = changed(edit, x)
        assert torch.equal(new[off], x[off, 1]) and (new[~off] != x[~off, 1]).any(1).all()


def test_ablation_keeps_the_error_term():
    """What is left after ablating every latent is what the dictionary never explained, on top of its bias."""
    x = activations()
    after = changed(ablate(CC, range(24), 1), x)
    error = x[:, 1] - CC.decode(CC.encode(x))[:, 1]
    torch.testing.assert_close(after, CC.mean[1] + CC.b_dec[1] / CC.scale[1] + error, atol=1e-4, rtol=1e-4)


def test_a_mean_ablation_sets_what_is_off_as_well():
    x, chosen, means = activations(), [2, 5, 7], [0.5, 0.0, 2.0]
    new = changed(ablate(CC, chosen, 1, to=means), x)
    d = CC.W_dec[chosen, 1].double() / CC.scale[1].double()
    close(new, x[:, 1].double() + (torch.tensor(means).double() - code64(CC, x)[:, chosen]) @ d)


@pytest.mark.parametrize("to", [None, [0.5, 0.0, 2.0]])
def test_a_change_written_along_other_latents_is_as_large_and_at_the_same_places(to):
    x, chosen, others = activations(200), [2, 5, 7], (11, 3, 2)
    edit = ablate(CC, chosen, 1, to=to)
    assert isinstance(edit, Revalued)
    new = changed(replace(edit, along=others), x)
    own, other = (CC.W_dec[list(j), 1].double() / CC.scale[1].double() for j in (chosen, others))
    directions = other / other.norm(dim=1, keepdim=True) * own.norm(dim=1, keepdim=True)
    f = code64(CC, x)[:, chosen]
    close(new, x[:, 1].double() + ((0.0 if to is None else torch.tensor(to).double()) - f) @ directions)
    one = changed(replace(ablate(CC, [2], 1), along=(11,)), x), changed(ablate(CC, [2], 1), x)
    moved = [(h - x[:, 1]).norm(dim=1) for h in one]
    torch.testing.assert_close(*moved, atol=1e-4, rtol=1e-4)
    assert 0 < (moved[0] > 0).sum() < 200


@pytest.mark.parametrize("slot", [0, 2])
def test_reconstruction_and_error_split_the_residual(slot):
    x, model = activations(), COMPARED[slot]
    own, recon = x[:, slot], CC.decode(CC.encode(x))[:, slot]
    torch.testing.assert_close(changed(reconstruction_only(CC, 1, model=model), x, model), recon, atol=1e-5, rtol=1e-5)
    left = changed(error_only(CC, 1, model=model), x, model)
    torch.testing.assert_close(left, CC.mean[slot] + (own - recon), atol=1e-5, rtol=1e-5)


def test_transplants_compare_the_codes_of_two_models_alone():
    """Each model's activations stand in every slot; the third model has no part."""
    x, chosen = activations(), [1, 4, 9]
    edit = transplant(CC, chosen, 1, source="zero_rl")
    own, source = (code64(CC, x[:, [slot] * 3])[:, chosen] for slot in (1, 2))
    wanted = x[:, 1].double() + (source - own) @ (CC.W_dec[chosen, 1].double() / CC.scale[1].double())
    close(changed(edit, x), wanted)
    other = x.clone()
    other[:, 0] += 5
    assert torch.equal(changed(edit, x), changed(edit, other))
    assert edit.needs == {"zero_rl"} and transplant(CC, chosen, 1, source="distilled").needs == frozenset()


def test_directions():
    h = activations()[:, 1]
    torch.testing.assert_close(Add(SITE, VECTOR, scale=-2.0).change(h, {}), h - 2 * VECTOR)
    assert Add(SITE, VECTOR, scale=0.0).change(h, {}) is h
    unit = VECTOR.double() / VECTOR.double().norm()
    for value in (0.0, 2.5):
        new = SetComponent(SITE, 7 * VECTOR, value=value).change(h, {})
        close(new, h.double() + (value - h.double() @ unit)[:, None] * unit)
        assert (new.double() @ unit - value).abs().max() < 1e-5


def test_patches_and_zeros_of_heads_leave_the_other_heads_bits():
    h, source = activations()[:, 0], activations()[:, 1]
    new = patch_from("base", 1, site="z", heads=(0, 3), n_heads=4).change(h, {"base": source})
    gone = zero(1, site="z", heads=(2,), n_heads=4).change(h, {})
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        assert torch.equal(new[:, part], (source if head in (0, 3) else h)[:, part])
        assert torch.equal(gone[:, part], torch.zeros_like(h[:, part]) if head == 2 else h[:, part])
    assert torch.equal(patch_from("base", 1).change(h, {"base": source}), source)
    assert torch.equal(zero(1).change(h, {}), torch.zeros_like(h))


def test_a_component_written_elsewhere_moves_as_far():
    h = activations(40)[:, 1]
    own, other = (
        SetComponent(SITE, 7 * VECTOR, value=1.5),
        SetComponent(SITE, 7 * VECTOR, value=1.5, along=VECTOR.flip(0)),
    )
    unit, along = (v.double() / v.double().norm() for v in (VECTOR, VECTOR.flip(0)))
    close(other.change(h, {}), h.double() + (1.5 - h.double() @ unit)[:, None] * along)
    torch.testing.assert_close(*((e.change(h, {}) - h).norm(dim=1) for e in (own, other)), atol=1e-4, rtol=1e-4)


def test_heads_are_set_to_their_part_of_a_mean():
    h, mean = activations(40)[:, 1], torch.arange(float(D_MODEL))
    edit = set_heads([(2, 1), (0, 0), (2, 0), (1, 3)], 4, {0: mean, 1: 2 * mean, 2: 3 * mean}, COMPLETION)
    assert [(one.site, one.heads, one.where) for one in edit.parts()] == [
        (Site(0, "z"), (0,), COMPLETION),
        (Site(1, "z"), (3,), COMPLETION),
        (Site(2, "z"), (1, 0), COMPLETION),
    ]
    new, size = edit.parts()[1].change(h, {}), D_MODEL // 4
    assert torch.equal(new[:, 3 * size :], (2 * mean)[3 * size :].expand(40, size))
    assert torch.equal(new[:, : 3 * size], h[:, : 3 * size])


EDITS = {
    "ablate": ablate(CC, [1], 1),
    "ablate other": ablate(CC, [2], 1),
    "ablate at": ablate(CC, [1], 1).at(COMPLETION),
    "ablate layer": ablate(CC, [1], 2),
    "mean": ablate(CC, [1], 1, to=[0.5]),
    "mean other": ablate(CC, [1], 1, to=[0.6]),
    "along": replace(ablate(CC, [1], 1), along=(2,)),
    "along other": replace(ablate(CC, [1], 1), along=(3,)),
    "amplify": amplify(CC, [1], 2.0, 1),
    "transplant": transplant(CC, [1], 1, source="base"),
    "decoders": add_decoder_difference(CC, [1], 1),
    "reconstruction": reconstruction_only(CC, 1),
    "error": error_only(CC, 1),
    "add": Add(SITE, VECTOR),
    "add other": Add(SITE, VECTOR + 1e-6),
    "set": SetComponent(SITE, VECTOR),
    "set along": SetComponent(SITE, VECTOR, along=VECTOR.flip(0)),
    "mean head": set_heads([(1, 0)], 2, {1: VECTOR}, COMPLETION),
    "mean head other": set_heads([(1, 0)], 2, {1: VECTOR + 1}, COMPLETION),
    "mean head zero": zero(1, site="z", heads=(0,), n_heads=2).at(COMPLETION),
    "patch": patch_from("base", 1),
    "heads": patch_from("base", 1, site="z", heads=(0,), n_heads=2),
    "zero": zero(1),
    "ban": ban(["wait"]),
    "substitute": substitute(["wait"], ["next"]),
    "affirm": affirm(LEXICON),
    "insert": insert([" wait ,"], 0.1),
    "echo": Echo(LEXICON),
    "redraw": Redraw(LEXICON),
    "redraw again": Redraw(LEXICON, 1),
    "untouched": NoEdit(),
    "two": ablate(CC, [1], 1) | ban(["wait"]),
}


def test_descriptions_tell_every_two_edits_apart_and_are_the_same_for_the_same():
    """A run's key is made of them: the places, a float's last digits, a tensor's values."""
    found = {name: json.dumps(edit.describe()) for name, edit in EDITS.items()}
    assert len(set(found.values())) == len(EDITS)
    again = ablate(small_crosscoder(), [1], 1)
    assert again.describe() == EDITS["ablate"].describe()
    assert ablate(small_crosscoder(seed=1), [1], 1).describe() != EDITS["ablate"].describe()
    assert all(edit.name for edit in EDITS.values())


def test_joined_edits_keep_their_order_and_are_restricted_together():
    one, two, three = Add(SITE, VECTOR), ban(["wait"]), zero(1)
    joined = one | (two | three)
    assert isinstance(joined, Both) and joined.parts() == (one, two, three) == ((one | two) | three).parts()
    assert joined.name == " | ".join(edit.name for edit in (one, two, three))
    assert joined.needs == frozenset() and (ablate(CC, [1], 1) | patch_from("x", 2)).needs == {"base", "zero_rl", "x"}
    first, second, third = joined.at(FORKS).parts()
    assert first.where == third.where == FORKS and second is two


CONTRADICTIONS = [
    (ablate(CC, [1, 2], 1), amplify(CC, [2, 3], 2.0, 1)),
    (ablate(CC, [1], 1), transplant(CC, [1], 1, source="base")),
    (patch_from("base", 1), zero(1, site="resid_post")),
    (reconstruction_only(CC, 1), error_only(CC, 1)),
    (patch_from("base", 1, site="z", heads=(0, 1), n_heads=2), zero(1, site="z", heads=(1,), n_heads=2)),
    (SetComponent(SITE, VECTOR), SetComponent(SITE, VECTOR, value=1.0)),
    (ban(["Wait", "hmm"]), substitute(["wait"], ["next"])),
    (ban(["check"]), affirm(LEXICON)),
    (Echo(LEXICON), Redraw(LEXICON)),
]


@pytest.mark.parametrize("pair", CONTRADICTIONS, ids=[f"{a.name} and {b.name}" for a, b in CONTRADICTIONS])
def test_edits_that_decide_the_same_contradict_each_other(pair):
    for one, two in (pair, pair[::-1]):
        with pytest.raises(InterpError, match=r"contradict each other: both decide .*; leave one of them out"):
            _ = one | two


def test_edits_that_decide_different_things_can_be_joined():
    assert ablate(CC, [1], 1) | ablate(CC, [1], 2) | ablate(CC, [2], 1) | Add(SITE, VECTOR) | Add(SITE, VECTOR)
    assert patch_from("base", 1, site="z", heads=(0,), n_heads=2) | zero(1, site="z", heads=(1,), n_heads=2)
    assert ban(["wait"]) | substitute(["hmm"], ["next"]) | Echo(LEXICON)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ablate(CC, [3, 24], 1), r"ablate latents 3, 24: no latent 24; the crosscoder has 0 to 23"),
        (lambda: ablate(CC, [-1], 1), "no latent -1"),
        (lambda: ablate(CC, [1, 2], 1, to=[0.5]), "1 values for 2 latents; give one each"),
        (lambda: replace(ablate(CC, [1, 2], 1), along=(3,)), "along 3: 1 decoders for 2 latents; give one each"),
        (lambda: replace(ablate(CC, [1], 1), along=(24,)), "no latent 24"),
        (lambda: ablate(CC, [1], 1, model="other"), "no model 'other'; the crosscoder's are base, distilled, zero_rl"),
        (lambda: ablate(CC, [1], 1, models=("base", "distilled")), "2 models are named, the crosscoder has 3"),
        (lambda: zero(1, heads=(0,), n_heads=2), "has no heads; patch heads at the site z"),
        (lambda: zero(1, site="z", heads=(2,), n_heads=2), "no head 2; the model has heads 0 to 1"),
        (lambda: transplant(CC, [1], 1, source="nobody"), "nobody"),
        (lambda: add_decoder_difference(CC, [1], 1, toward="nobody"), "nobody"),
    ],
)
def test_what_the_crosscoder_or_the_site_does_not_have_is_refused(setting, make, message):
    with pytest.raises(InterpError, match=message):
        made = make()
        if isinstance(made, LatentEdit):
            check_edit(made, setting, "distilled")


@pytest.fixture(scope="module")
def setting(models, tokenizer):
    each = {name: [] for name in models}
    tokenizers, names = dict.fromkeys(models, tokenizer), dict.fromkeys(models, "")
    return Setting(models, tokenizers, each, each, [], ChainTask(), LEXICON, 8, 1.0, 0, names)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (ablate(CC, [1], 3), "blocks.3.hook_resid_post: the model has blocks 0 to 2; choose one of them"),
        (ablate(CC, [1], -1), "the model has blocks 0 to 2"),
        (Add(Site(1, "resid_last"), VECTOR), "no such site; choose one of resid_pre"),
        (Add(SITE, VECTOR[:-1]), "direction's width is 15, that of blocks.1.hook_resid_post is 16"),
        (SetComponent(Site(1, "z"), VECTOR[:-1]), "direction's width is 15"),
        (set_heads([(1, 0)], 2, {1: VECTOR[:-1]}, COMPLETION), "its width is 15"),
        (
            ablate(small_crosscoder(d_model=8), [1], 1),
            "crosscoder's width is 8, that of .* is 16; give a crosscoder of",
        ),
        (ablate(small_crosscoder(d_model=8), [1], 1, site="z"), "crosscoder's width is 8"),
        (patch_from("other", 1), "no model 'other' in this run; there are base, distilled, zero_rl"),
        (ban(["wait"]) | Add(SITE, VECTOR[:-1]), "direction's width"),
        (zero(1, site="z", heads=(2,), n_heads=4), "n_heads is 4, the model has 2 heads"),
    ],
)
def test_an_edit_that_does_not_fit_the_model_is_refused(setting, edit, message):
    with pytest.raises(InterpError, match=message):
        check_edit(edit, setting, "distilled")


@pytest.mark.parametrize("name", SITES)
def test_an_edit_that_fits_is_not_refused(setting, name):
    for edit in (ablate(CC, [1], 1, site=name), Add(Site(0, name), VECTOR), patch_from("base", 2, site=name)):
        check_edit(edit | ban(["wait"]), setting, "distilled")
