"""Perplexity of edited texts under the untouched model, against one forward a text."""

import math

import pytest
import torch

from interp.causal import coherence
from interp.causal.coherence import perplexity
from interp.generation.sampling import CachedModel, generate


def test_perplexity_by_hand(model, tokenizer, monkeypatch):
    rollouts = generate(CachedModel(model), tokenizer, ["Q 1 + 2 A", "A", "Q 3 A wait"], max_new_tokens=12)
    prompts = [*(r.prompt_ids for r in rollouts), [5, 6]]
    completions = [*(r.completion_ids for r in rollouts), []]
    logps = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = [*prompt, *completion]
        with torch.inference_mode():
            logp = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        logps += [float(logp[t - 1, ids[t]]) for t in range(len(prompt), len(ids))]
    by_hand = math.exp(-sum(logps) / len(logps))
    assert perplexity(model, prompts, completions) == pytest.approx(by_hand, rel=1e-4)
    monkeypatch.setattr(coherence, "ROWS", 1)
    assert perplexity(model, prompts, completions) == pytest.approx(by_hand, rel=1e-4)


def test_a_run_that_says_nothing_is_not_coherent(model):
    """A dose that makes the model stop at once has no tokens to be perplexed by; it may not pass the guard."""
    assert not perplexity(model, [[5, 6]] * 4, [[]] * 4) < 100.0
