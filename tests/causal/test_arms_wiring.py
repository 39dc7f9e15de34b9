"""Which edit goes to which copy, which model's decoder is used, and whose controls stand beside which arm."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from small import D_MODEL, LAYERS, small_crosscoder

from interp.causal.arms import (
    latent_family,
    latent_verdict_arms,
    reconstruction_arms,
    steering_family,
    text_arms,
)
from interp.causal.edits import AddDirection, ScaleLatents
from interp.causal.effects import table
from interp.causal.latent_sets import LatentArm
from interp.causal.subject import Subject
from interp.causal.verdict import BOTH, FUNCTION, STYLE, Arm
from interp.generation.sampling import CachedModel, generate
from interp.names import OUTCOMES
from interp.organisms.documents import MARKERS, NEUTRAL
from interp.traces.measure import Outcomes
from interp.traces.rollouts import Rollout
from interp.traces.tokens import encode

from .runs import make_subject

MARKERS_GONE, WORDS_GONE, ECHOED, REDRAWN = 1, 2, 4, 8
WRITTEN = "wait next now here"
"""What the untouched run says, so that there are words for the controls to forbid."""


@dataclass(frozen=True)
class Probed(Subject):
    """A subject that generates nothing: every copy's accuracy is a code of what its edits did to two fixed texts."""

    asked: list = field(default_factory=list)
    """(problems, copies) of every run."""

    def run(self, n, copies, *, edits=(), edit=None, read_along=True):
        self.asked.append((n, copies))
        codes = self._codes(copies, edits) if edits else [0] * copies
        ids = encode(self.tokenizer, WRITTEN)
        return [[Rollout([0], ids, str(code), True)] * n for code in codes]

    def outcomes(self, rollouts):
        accuracy, ones = np.array([int(r.text) / 16 for r in rollouts]), np.ones(len(rollouts))
        return Outcomes({name: (accuracy if name == "accuracy" else ones, ones) for name in OUTCOMES})

    def _codes(self, copies, edits):
        copy = torch.arange(copies)
        free = self._edited("3 + 4 = 8 ,", copy, edits)
        marker, word = (
            [bool(torch.isinf(row[[encode(self.tokenizer, w)[0] for w in words]]).any()) for row in free]
            for words in (MARKERS, NEUTRAL)
        )
        result = self._edited("3 + 4 = 8 , wait , 3 + 4 =", copy, edits)
        eight, five = (encode(self.tokenizer, digit)[0] for digit in ("8", "5"))
        forced = [torch.isfinite(row).nonzero().flatten().tolist() for row in result]
        return [
            MARKERS_GONE * marker[i]
            + WORDS_GONE * word[i]
            + ECHOED * (forced[i] == [eight])
            + REDRAWN * (forced[i] == [five])
            for i in range(copies)
        ]

    def _edited(self, text, copy, edits):
        """Logits after a text under which the model would surely write 5, as each copy's edits leave them."""
        tokens = torch.tensor(encode(self.tokenizer, text)).repeat(len(copy), 1)
        logits = torch.zeros(len(copy), self.model.config.vocab_size)
        logits[:, encode(self.tokenizer, "5")[0]] = 100.0
        for edit in edits:
            edit(tokens, logits, copy)
        return logits


def codes(arm):
    """(code of the edited run, codes of its controls)."""
    edited, *controls = ({round(16 * v) for v in run.parts["accuracy"][0]} for run in (arm.edited, *arm.controls))
    return edited, controls


@pytest.fixture(scope="module")
def probed(models, tokenizer):
    return Probed(**vars(make_subject(models, tokenizer, 12)))


def test_each_text_arm_has_its_own_edit_and_its_own_controls(probed):
    """Style: markers banned, beside bans of other words. Function: results echoed, beside results redrawn. Both: both,
    beside both controls."""
    arms, rows = text_arms(probed, probed.outcomes(probed.run(12, 1)[0]), 5, 4, construction=True)
    assert list(arms) == [STYLE, FUNCTION, BOTH]
    assert codes(arms[STYLE]) == ({MARKERS_GONE}, [{WORDS_GONE}] * 5)
    assert codes(arms[FUNCTION]) == ({ECHOED}, [{REDRAWN}] * 5)
    assert codes(arms[BOTH]) == ({MARKERS_GONE + ECHOED}, [{WORDS_GONE + REDRAWN}] * 5)
    for arm in arms.values():
        assert len(arm.edited) == 12
        assert [len(c) for c in arm.controls] == [4] * 5
    frame = table(rows)
    accuracy = frame.filter(frame["outcome"] == "accuracy")
    assert accuracy["arm"].to_list() == [STYLE, FUNCTION, BOTH]
    assert accuracy["family"].to_list() == ["style", "function", "both"]
    assert accuracy["estimate"].to_list() == [1 / 16, 4 / 16, 5 / 16]
    assert accuracy["control_mean"].to_list() == [2 / 16, 8 / 16, 10 / 16]
    assert accuracy["control_name"].to_list() == [
        "ban of random other words",
        "the recomputed result drawn anew",
        "both controls at once",
    ]
    assert set(accuracy["model"]) == {"distilled"}


def test_without_equations_only_words_are_banned(probed):
    arms, _ = text_arms(probed, probed.outcomes(probed.run(12, 1)[0]), 5, 4, construction=False)
    assert list(arms) == [STYLE]
    assert codes(arms[STYLE]) == ({MARKERS_GONE}, [{WORDS_GONE}] * 5)


def test_a_control_of_the_ban_forbids_no_marker_and_differs_between_draws(probed):
    """Twice as many candidates as there are markers, half of them forbidden in each draw."""
    arms, _ = text_arms(probed, probed.outcomes(probed.run(12, 1)[0]), 20, 4, construction=True)
    assert all(code == {WORDS_GONE} for code in codes(arms[STYLE])[1])


# A world of one latent: it is active at every position, and only the edited model's decoder of it speaks.

ALWAYS, NEVER = 3, 5
STRENGTH = 1e4
"""Of the decoder, against residuals of norm about 20: what it points to is written next."""


def speaks(model, token):
    """A residual after the last block from which the model writes this token."""
    row = model.lm_head.weight[token] / model.model.norm.weight
    direction = row / row.norm()
    assert int((model.lm_head.weight @ (model.model.norm.weight * direction)).argmax()) == token
    return direction


@pytest.fixture(scope="module")
def told(models, tokenizer):
    """Tokens that the distilled model can be made to write by an edit of its last residual: a marker, and another."""
    return {word: encode(tokenizer, word)[0] for word in ("wait", "7", "+")}


@pytest.fixture(scope="module")
def last(models, tokenizer):
    return make_subject(models, tokenizer, 8, layer=LAYERS - 1, temperature=0.0, max_new_tokens=12)


def one_latent(models, told, factor):
    """Scaling latent ALWAYS by `factor` makes the distilled model write "wait" through its own decoder, and would make
    it write other words through the base's or the zero-RL model's."""
    cc = small_crosscoder()
    for tensor in (cc.W_enc, cc.W_dec, cc.b_enc, cc.b_dec, cc.mean):
        tensor.zero_()
    cc.scale.fill_(1.0)
    cc.threshold.fill_(0.0)
    cc.b_enc[ALWAYS] = 1.0
    for slot, word in enumerate(("+", "wait", "7")):
        cc.W_dec[ALWAYS, slot] = np.sign(factor - 1) * STRENGTH * speaks(models["distilled"], told[word])
        cc.W_dec[NEVER, slot] = cc.W_dec[ALWAYS, slot]
    return cc


@pytest.mark.parametrize("factor", [0.0, 3.0])
def test_latents_are_scaled_through_the_edited_models_decoder(models, last, told, factor):
    untouched = last.outcomes(last.run(8, 1)[0])
    cc, arm = one_latent(models, told, factor), LatentArm("scaled", [ALWAYS], factor, [[NEVER], []])
    ran, rows = latent_family(last, cc, [arm], untouched, 8)
    assert untouched.value("marker_density") < 80
    assert ran["scaled"].edited.value("marker_density") == 100.0, "every word is the marker"
    for control in ran["scaled"].controls:
        assert np.array_equal(control.parts["marker_density"][0], untouched.parts["marker_density"][0])
    frame = table(rows)
    row = frame.filter(frame["outcome"] == "marker_density").row(0, named=True)
    assert (row["family"], row["arm"], row["model"]) == ("latents", "scaled", "distilled")
    assert (row["site"], row["layer"], row["n_controls"]) == ("resid_post", LAYERS - 1, 2)
    assert row["estimate"] == pytest.approx(100.0 - untouched.value("marker_density"))
    assert row["control_mean"] == pytest.approx(0.0)


def test_every_arm_gets_its_own_factor_and_latents(models, last, told):
    untouched = last.outcomes(last.run(8, 1)[0])
    arms = [
        LatentArm("silent", [NEVER], 0.0, []),
        LatentArm("same", [ALWAYS], 1.0, []),
        LatentArm("no", [ALWAYS], 0.0, []),
    ]
    ran, _ = latent_family(last, one_latent(models, told, 0.0), arms, untouched, 8)
    density = [ran[a.name].edited.value("marker_density") for a in arms]
    assert density[:2] == [untouched.value("marker_density")] * 2
    assert density[2] == 100.0


def test_the_reconstruction_is_the_edited_models_and_the_error_what_it_leaves(models, last, told):
    """A dictionary of nothing but biases: the distilled model's is written out by the reconstruction, and taken away
    by the error."""
    cc = one_latent(models, told, 0.0)
    cc.b_enc.zero_()
    cc.b_dec[1] = STRENGTH * speaks(models["distilled"], told["wait"])
    cc.b_dec[0] = cc.b_dec[2] = -cc.b_dec[1]
    untouched = last.outcomes(last.run(8, 1)[0])
    frame = table(reconstruction_arms(last, cc, untouched, 8))
    frame = frame.filter(frame["outcome"] == "marker_density")
    assert frame["arm"].to_list() == ["reconstruction only", "error only"]
    plain = untouched.value("marker_density")
    assert frame["estimate"].to_list() == pytest.approx([100.0 - plain, -plain])
    assert (frame["control_name"] == "none: it is a control itself").all()


@dataclass(frozen=True)
class Read(Subject):
    """A subject that keeps the texts whose outcomes were asked for."""

    texts: list = field(default_factory=list)

    def outcomes(self, rollouts):
        self.texts.append({word for r in rollouts for word in r.text.split()})
        return super().outcomes(rollouts)


def test_prose_loses_its_function_by_ablation_and_both_by_ablation_under_the_ban(models, last, told):
    cc, untouched = one_latent(models, told, 0.0), last.outcomes(last.run(8, 1)[0])
    arm = LatentArm("ablate verification latents", [ALWAYS], 0.0, [[NEVER]])
    ran, _ = latent_family(last, cc, [arm], untouched, 8)
    subject = Read(**vars(last))
    arms = latent_verdict_arms(ran, subject, cc, [ALWAYS], 8)
    assert list(arms) == [FUNCTION, BOTH]
    assert arms[FUNCTION] is ran["ablate verification latents"]
    assert arms[BOTH].controls is arms[FUNCTION].controls
    assert arms[FUNCTION].edited.value("marker_density") == 100.0
    assert arms[BOTH].edited.value("marker_density") == 0.0
    # The ablation is there as well: every word is the one nearest to the marker that is no marker.
    model = models["distilled"]
    nearest = model.lm_head(model.model.norm.weight * speaks(model, told["wait"]))
    nearest[[encode(last.tokenizer, word)[0] for word in MARKERS]] = -torch.inf
    assert subject.texts == [{last.tokenizer.decode([int(nearest.argmax())]).strip()}]


@dataclass(frozen=True)
class Recorded(Subject):
    """A subject that keeps every residual edit it was run under, and generates without it."""

    kept: list = field(default_factory=list)

    def run(self, n, copies, *, edits=(), edit=None, read_along=True):
        self.kept.append((n, copies, edit, read_along))
        rollouts = generate(CachedModel(self.model), self.tokenizer, self.prompts[:n], max_new_tokens=4)
        return [[replace(r, text=f"copy {i}") for r in rollouts] for i in range(copies)]


def test_a_dose_is_a_multiple_of_the_mean_norm_along_the_direction(models, tokenizer, monkeypatch):
    """Direction (3, 4, 0, ...) of norm 5, mean norm 10: a dose of .5 adds (3, 4, 0, ...), one of -.1 its -.2-fold."""
    subject = Recorded(**vars(make_subject(models, tokenizer, 6)))
    perplexities = iter([2.0, 3.0, 2.0, 2.9])

    def perplexity(model, rollouts):
        assert model is models["distilled"]
        assert {r.text for r in rollouts} == {"copy 0"}, "of the steered run, not of a control"
        return next(perplexities)

    monkeypatch.setattr("interp.causal.arms.perplexity", perplexity)
    direction = torch.zeros(D_MODEL)
    direction[:2] = torch.tensor([3.0, 4.0])
    untouched = subject.outcomes(subject.run(6, 1)[0])
    subject.kept.clear()
    frame = table(steering_family(subject, direction, 10.0, [0.5, -0.1, 0.2], 1.5, untouched, 6, 4))
    plain, *steered = subject.kept
    assert plain == (6, 1, None, True)
    for (n, copies, edit, read_along), times in zip(steered, (1.0, -0.2, 0.4), strict=True):
        assert (n, copies, read_along) == (6, 5, False)
        assert isinstance(edit, AddDirection)
        torch.testing.assert_close(edit.vectors[0], times * direction)
        torch.testing.assert_close(edit.vectors[1:].norm(dim=1), torch.full((4,), abs(times) * 5.0))
        cosine = torch.nn.functional.cosine_similarity(edit.vectors[1:], direction[None])
        assert cosine.abs().max() < 0.9, "a control points elsewhere"
        assert torch.linalg.matrix_rank(edit.vectors[1:]) == 4, "draws differ"
    of_dose = {
        dose: frame.filter((frame["dose"] == dose) & (frame["outcome"] == "accuracy")) for dose in (0.5, -0.1, 0.2)
    }
    assert [row["coherent"].item() for row in of_dose.values()] == [False, True, True]
    assert [row["note"].item() for row in of_dose.values()] == [
        "perplexity x1.50",
        "perplexity x1.00",
        "perplexity x1.45",
    ]
    assert [row["arm"].item() for row in of_dose.values()] == [
        "add +0.5 of the behaviour's direction",
        "add -0.1 of the behaviour's direction",
        "add +0.2 of the behaviour's direction",
    ]
    assert set(frame["control_name"]) == {"random directions, same norm"}
    assert set(frame["n_problems"]) == {6}


def test_under_the_ban_too_the_latents_are_ablated_in_the_edited_models_slot(models, tokenizer):
    subject = Recorded(**vars(make_subject(models, tokenizer, 6)))
    untouched = subject.outcomes(subject.run(6, 1)[0])
    latent_verdict_arms({"ablate verification latents": Arm(untouched, [])}, subject, small_crosscoder(), [3, 7], 6)
    n, copies, edit, read_along = subject.kept[-1]
    assert (n, copies, read_along) == (6, 1, True)
    assert isinstance(edit, ScaleLatents)
    assert (edit.slot, edit.latents.tolist(), edit.factors.tolist()) == (1, [3, 7], [[0.0, 0.0]])


@dataclass(frozen=True)
class Wordy(Subject):
    """A subject whose completions have 2 tokens where nothing is added, 3 under the direction, 7 under a control."""

    def run(self, n, copies, *, edits=(), edit=None, read_along=True):
        lengths = [2] if edit is None else [3, *[7] * (copies - 1)]
        return [[Rollout([0], [5] * length, "", True)] * n for length in lengths]


def test_a_dose_is_coherent_by_the_perplexity_of_its_own_texts(models, tokenizer, monkeypatch):
    subject = Wordy(**vars(make_subject(models, tokenizer, 6)))
    monkeypatch.setattr("interp.causal.arms.perplexity", lambda _, rollouts: float(len(rollouts[0].completion_ids)))
    untouched, direction = subject.outcomes(subject.run(6, 1)[0]), torch.ones(D_MODEL)
    frame = table(steering_family(subject, direction, 10.0, [0.5], 2.0, untouched, 6, 4))
    assert frame["coherent"].all()
    assert frame["note"].str.contains("perplexity x1.50", literal=True).all()
