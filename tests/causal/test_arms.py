"""The arms of a study: each has its own edit, its own controls and its own claim, and edits the right model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import D_MODEL, LAYERS, small_crosscoder

from interp.causal.arms import BOTH, FUNCTION, STYLE, Arm
from interp.causal.edits import Add, Both, Echo, Redraw, ablate, amplify, error_only, reconstruction_only
from interp.causal.edits.ban import Ban
from interp.causal.edits.substitute import Substitute
from interp.causal.effects import effects
from interp.causal.places import after_first
from interp.causal.run import run as run_arms
from interp.causal.runs import UNTOUCHED
from interp.causal.steering import Direction
from interp.causal.study_arms import Sizes, latent_arms, steering_arms, text_arms
from interp.causal.verdict import NO_GAIN, UNDETERMINED, conclude
from interp.directions import Provenance
from interp.errors import InterpError
from interp.generation.vocabulary import read_vocabulary
from interp.traces.lexicon import load_lexicon
from interp.traces.tokens import encode

from .runs import make_setting

LEXICON = load_lexicon("default")
NAMES = ("base", "distilled", "zero_rl")
SIZES = Sizes(draws=5, control_problems=4, seed=0)
TEXTS = ["wait 3 + 4 = 7 next 3 + 4 = 8 now here then check"] * 40


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return read_vocabulary(tokenizer, len(tokenizer))


def study(vocabulary, found=(), lexicon=LEXICON):
    return text_arms(lexicon, vocabulary, ("distilled", "base"), TEXTS, ["Q 3 + 4 A"] * 40, found, 20, SIZES)


def test_each_text_arm_has_its_own_edit_and_its_own_controls(vocabulary):
    arms = {arm.name: arm for arm in study(vocabulary)}
    substitution, ban = arms["markers become neutral words"], arms["markers banned"]
    echo = arms["repeated steps echo the first result"]
    both = arms[f"{substitution.name}; {echo.name}"]
    assert (substitution.claim, ban.claim, echo.claim, both.claim) == (STYLE, STYLE, FUNCTION, BOTH)
    assert [a.family for a in (substitution, ban, echo, both)] == ["style", "style", "function", "both"]
    markers = set(LEXICON.class_of)
    assert set(substitution.edit.phrases) == set(ban.edit.phrases) == markers
    assert isinstance(substitution.edit, Substitute) and substitution.edit.by == LEXICON.neutral
    assert isinstance(echo.edit, Echo) and isinstance(both.edit, Both)
    assert both.edit.parts() == (substitution.edit, echo.edit)
    assert [c.draw for c in echo.controls] == [1, 2, 3, 4, 5] and all(isinstance(c, Redraw) for c in echo.controls)
    for arm, kind, draws in ((substitution, Substitute, 2), (ban, Ban, 5)):  # two markers occur in the texts
        assert len(set(arm.controls)) == draws and all(isinstance(control, kind) for control in arm.controls)
    for control in ban.controls:
        assert not set(control.phrases) & (markers | {"3", "4", "7"})
    for control in substitution.controls:  # the same places, and the style stays
        assert set(control.phrases) == markers and control.by and set(control.by) < markers
    for control, redraw in zip(both.controls, echo.controls, strict=True):
        assert control.parts()[1] == redraw and control.parts()[0] in substitution.controls
    for arm in arms.values():
        assert arm.models == ("distilled", "base") and arm.control_problems == 4 and arm.forced
        assert (arm.first, arm.found) == (0, False)
    assert "times as frequent" in ban.note


def test_unlisted_words_are_removed_with_the_markers_on_the_other_problems(vocabulary):
    arms = study(vocabulary, ["hence"])
    wide = [a for a in arms if a.found]
    assert [(a.claim, a.first) for a in wide] == [(STYLE, 20), (STYLE, 20), (BOTH, 20)]
    for arm in wide:
        assert set(arm.edit.parts()[0].phrases) == {*LEXICON.class_of, "hence"}
    assert len([a for a in arms if a.claim == BOTH]) == 2
    assert len({a.name for a in arms}) == len(arms)


def test_without_neutral_words_the_ban_alone_removes_the_style(vocabulary):
    arms = study(vocabulary, lexicon=replace(LEXICON, neutral=()))
    assert [a.name for a in arms if a.claim == STYLE] == ["markers banned"]
    (both,) = [a for a in arms if a.claim == BOTH]
    assert isinstance(both.edit.parts()[0], Ban) and both.controls


# A world of one latent: it is active at every position, and only the edited model's decoder of it speaks.

ALWAYS, NEVER = 3, 5
STRENGTH = 1e4


def speaks(model, token):
    """A residual after the last block from which the model writes this token."""
    row = model.lm_head.weight[token] / model.model.norm.weight
    return row / row.norm()


@pytest.fixture(scope="module")
def last(models, tokenizer):
    return make_setting(models, tokenizer, 6, temperature=0.0, max_new_tokens=8)


def one_latent(models, tokenizer, factor):
    """Scaling latent ALWAYS by `factor` makes the distilled model write "wait" through its own decoder, and would make
    it write other words through the base's or the zero-RL model's."""
    cc = small_crosscoder()
    for tensor in (cc.W_enc, cc.W_dec, cc.b_enc, cc.b_dec, cc.mean):
        tensor.zero_()
    cc.scale.fill_(1.0)
    cc.threshold.fill_(0.0)
    cc.b_enc[ALWAYS] = 1.0
    for slot, word in enumerate(("+", "wait", "7")):
        token = encode(tokenizer, word)[0]
        cc.W_dec[ALWAYS, slot] = np.sign(factor - 1) * STRENGTH * speaks(models["distilled"], token)
        cc.W_dec[NEVER, slot] = cc.W_dec[ALWAYS, slot].roll(1)  # as long and another way, or it would be no control
    return cc


@pytest.mark.parametrize("verb", ["ablate", "amplify"])
def test_latents_are_scaled_through_the_edited_models_decoder(models, tokenizer, last, tmp_path, verb):
    cc = one_latent(models, tokenizer, 0.0 if verb == "ablate" else 3.0)
    edit = ablate(cc, [ALWAYS], LAYERS - 1, models=NAMES)
    firing, size = np.zeros(24), np.zeros(24)
    firing[[ALWAYS, NEVER]], size[[ALWAYS, NEVER]] = 1.0, 1.0
    arms = latent_arms({"reflection": edit}, after_first(0), firing, size, [ALWAYS], 3.0, SIZES, 6)
    (arm,) = [a for a in arms if a.name == f"{verb} reflection latents"]
    assert (arm.family, arm.site, arm.layer, arm.problems) == ("latents", "resid_post", LAYERS - 1, 6)
    assert "matched at the edited places" in arm.note and "2 of 5 draws" in arm.note, "there is one other latent"
    assert [c.latents for c in arm.controls] == [(NEVER,), (ALWAYS,)] and arm.controls[1].along == (NEVER,)
    arm = replace(arm, controls=arm.controls[:1])
    runs = run_arms(last, [arm], tmp_path)
    plain = runs.outcomes(UNTOUCHED).value("marker_density")
    assert plain < 80 and runs.outcomes(arm.name).value("marker_density") == 100.0
    assert runs.texts(arm.name, 1) == runs.texts(UNTOUCHED)[:4], "a latent that never fires changes nothing"
    assert runs.fired(arm.name).sum() > 0 and runs.fired(arm.name, 1).sum() == 0
    row = next(r for r in effects(runs, resamples=50) if r["outcome"] == "marker_density")
    assert row["estimate"] == pytest.approx(100.0 - plain) and row["control_mean"] == pytest.approx(0.0)


def test_a_latent_that_writes_the_same_is_no_control(models, tokenizer):
    cc = one_latent(models, tokenizer, 0.0)
    edit = ablate(cc, [ALWAYS], LAYERS - 1, models=NAMES)
    cc.W_dec[NEVER, edit.slot] = -2 * cc.W_dec[ALWAYS, edit.slot]
    firing = np.eye(24)[ALWAYS] + np.eye(24)[NEVER]
    for arm in latent_arms({"reflection": edit}, after_first(0), firing, firing, [ALWAYS], 3.0, SIZES, 6):
        assert not arm.controls and "no set of 1 of 0 latents" in arm.note


def test_ablation_and_amplification_share_their_controls_and_none_is_barred():
    cc = small_crosscoder()
    rng = np.random.default_rng(0)
    firing, size = rng.uniform(0.05, 0.06, 24), rng.uniform(1, 1.1, 24)
    edits = {b: ablate(cc, group, 1, models=NAMES) for b, group in (("a", [1, 2]), ("b", [2, 3]))}
    arms = latent_arms(edits, after_first(2), firing, size, [1, 2, 3], 3.0, SIZES, 6)
    assert [a.name for a in arms] == [f"{verb} {b} latents" for b in "ab" for verb in ("ablate", "amplify")]
    for off, up in (arms[:2], arms[2:]):
        assert [c.latents for c in off.controls] == [c.latents for c in up.controls]
        assert not {1, 2, 3} & {j for c in off.controls for j in c.latents}
        assert off.edit.describe() == ablate(cc, off.edit.latents, 1, models=NAMES).at(after_first(2)).describe()
        assert up.edit.describe() == amplify(cc, up.edit.latents, 3.0, 1, models=NAMES).at(after_first(2)).describe()


def test_the_reconstruction_is_the_edited_models_and_the_error_what_it_leaves(models, tokenizer, last, tmp_path):
    """A dictionary of nothing but biases: the distilled model's is written out by the reconstruction, and taken away
    by the error."""
    cc = one_latent(models, tokenizer, 0.0)
    cc.b_enc.zero_()
    cc.b_dec[1] = STRENGTH * speaks(models["distilled"], encode(tokenizer, "wait")[0])
    cc.b_dec[0] = cc.b_dec[2] = -cc.b_dec[1]
    arms = [Arm(make.__name__, make(cc, LAYERS - 1)) for make in (reconstruction_only, error_only)]
    runs = run_arms(last, arms, tmp_path)
    assert runs.outcomes("reconstruction_only").value("marker_density") == 100.0
    assert runs.outcomes("error_only").value("marker_density") == 0.0


def test_a_dose_is_a_multiple_of_the_mean_norm_along_the_direction():
    """Direction (3, 4, 0, ...), mean norm 10: a dose of .5 adds (3, 4, 0, ...), one of -.1 its -.2-fold."""
    vector = torch.zeros(D_MODEL)
    vector[:2] = torch.tensor([3.0, 4.0])
    direction = Direction(vector, 1, "resid_post", Provenance(residual_norm=10.0))
    arms = steering_arms(direction, [0.5, -0.1, 0.2], after_first(2), SIZES, 6)
    for arm, dose in zip(arms, (0.5, -0.1, 0.2), strict=True):
        assert isinstance(arm.edit, Add)
        torch.testing.assert_close(arm.edit.scale * arm.edit.vector, 2 * dose * vector)
        assert (arm.dose, arm.layer, arm.family, arm.forced) == (dose, 1, "steering", False)
        assert arm.name == f"add {dose:+g} of the behaviour's direction"
        drawn = torch.stack([c.scale * c.vector for c in arm.controls])
        torch.testing.assert_close(drawn.norm(dim=1), torch.full((5,), abs(dose) * 10.0))
        assert torch.linalg.matrix_rank(drawn) == 5
        assert torch.nn.functional.cosine_similarity(drawn, vector[None]).abs().max() < 0.9
    with pytest.raises(InterpError, match="mean norm"):
        steering_arms(Direction(vector, 1, "resid_post", Provenance()), [0.1], after_first(2), SIZES, 6)


def test_a_whole_study_of_random_models_is_no_confident_word(models, tokenizer, vocabulary, tmp_path):
    """Random models know nothing: through run, effects and verdict, what comes out is a refusal with its reason."""
    setting = make_setting(models, tokenizer, 40, max_new_tokens=12)
    arms = study(vocabulary)
    runs = run_arms(setting, [replace(a, controls=a.controls[:2]) for a in arms], tmp_path)
    found = conclude(runs, resamples=200)
    assert found.verdict in (NO_GAIN, UNDETERMINED) and found.why
    assert runs.outcomes("markers banned").value("marker_density") == 0.0
    assert runs.outcomes("markers become neutral words").value("marker_density") == 0.0
    assert runs.outcomes("markers banned", 1).value("marker_density") > 0.0, "controls leave the markers"
    few = run_arms(replace(setting, **_first(setting, 2)), [replace(a, controls=()) for a in arms], tmp_path / "two")
    assert "Too few problems: 2" in conclude(few, resamples=50).why


def _first(setting, n):
    return {"problems": setting.problems[:n], "prompts": {m: p[:n] for m, p in setting.prompts.items()}}
