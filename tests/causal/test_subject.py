import math

import pytest
import torch
from small import D_MODEL

from interp.causal.edits import AddDirection
from interp.causal.style import ban
from interp.causal.subject import perplexity
from interp.generation.sampling import CachedModel, generate
from interp.traces.rollouts import Rollout

from .runs import make_subject


def test_perplexity_by_hand(model, tokenizer):
    rollouts = generate(CachedModel(model), tokenizer, ["Q 1 + 2 A", "A", "Q 3 A wait"], max_new_tokens=12)
    rollouts.append(Rollout([5, 6], [], "", True))
    logps = []
    for r in rollouts:
        ids = r.prompt_ids + r.completion_ids
        with torch.inference_mode():
            logp = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        logps += [float(logp[t - 1, ids[t]]) for t in range(len(r.prompt_ids), len(ids))]
    by_hand = math.exp(-sum(logps) / len(logps))
    assert perplexity(model, rollouts) == pytest.approx(by_hand, rel=1e-4)
    assert perplexity(model, rollouts, batch_size=1) == pytest.approx(by_hand, rel=1e-4)


def test_a_run_that_says_nothing_is_not_coherent(model):
    """A dose that makes the model stop at once has no tokens to be perplexed by; it may not pass the guard."""
    silent = [Rollout([5, 6], [], "", True)] * 4
    assert not perplexity(model, silent) < 100.0


def test_runs_share_their_noise_whatever_is_edited(models, tokenizer):
    subject = make_subject(models, tokenizer, 20)
    (plain,) = subject.run(20, 1)
    nothing = ban(torch.zeros(3, len(tokenizer), dtype=torch.bool))
    for copy in subject.run(20, 3, edits=[nothing]):
        assert copy == plain
    zero = AddDirection(torch.zeros(2, D_MODEL))
    for copy in subject.run(20, 2, edit=zero, read_along=False):
        assert copy == plain
    assert subject.run(7, 1)[0] == plain[:7]


def test_completions_are_graded_by_their_own_problems(models, tokenizer):
    """The right answers of the first six of twenty problems, which are not those of the last six."""
    subject = make_subject(models, tokenizer, 20)
    answers = [Rollout([5], [6], f"#### {p.answer}", True) for p in subject.problems[:6]]
    assert [p.answer for p in subject.problems[:6]] != [p.answer for p in subject.problems[-6:]]
    assert subject.outcomes(answers).parts["accuracy"][0].tolist() == [1.0] * 6


def test_outcomes_are_of_the_first_problems(models, tokenizer):
    subject = make_subject(models, tokenizer, 20)
    (rollouts,) = subject.run(6, 1)
    found = subject.outcomes(rollouts)
    assert len(found) == 6
    assert found.parts["length"][0].tolist() == [len(r.completion_ids) for r in rollouts]


def test_completions_are_graded_by_the_problems_they_answer(models, tokenizer):
    """Each of the first six problems is answered rightly, in its own words."""
    subject = make_subject(models, tokenizer, 20)
    assert len({p.answer for p in subject.problems[:6]} | {p.answer for p in subject.problems[-6:]}) > 1
    right = [Rollout([0], [1, 2], f"#### {p.answer}", True) for p in subject.problems[:6]]
    assert subject.outcomes(right).parts["accuracy"][0].tolist() == [1.0] * 6
    turned = subject.outcomes([*right[1:], right[0]]).parts["accuracy"][0]
    answers = [p.answer for p in subject.problems[:6]]
    assert turned.tolist() == [float(a == b) for a, b in zip(answers, [*answers[1:], answers[0]], strict=True)]
