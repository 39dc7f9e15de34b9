"""A crosscoder finds the latents that rows were made of, and which models have them."""

import pytest
import torch
from torch.nn.functional import normalize

from interp.crosscoder import CrosscoderConfig, TrainConfig, evaluate, train

from .samples import planted


@pytest.fixture(scope="module")
def found():
    """The truth, and for each of its latents the cosine to the best latent and that latent's norm per model."""
    truth = planted(20_000)
    config = CrosscoderConfig(n_models=3, d_model=24, n_latents=120, k=3)
    settings = TrainConfig(steps=500, batch_size=512, lr=3e-3, dead_after_rows=20_000)
    crosscoder = train(truth.rows, config, settings)
    decoder = crosscoder.decoder_in_input_units()
    cosine = normalize(truth.directions.flatten(1), dim=1) @ normalize(decoder.flatten(1), dim=1).T
    best = cosine.max(dim=1)
    return crosscoder, best.values, decoder[best.indices].norm(dim=2)


def test_most_planted_latents_are_recovered(found):
    _, cosine, _ = found
    assert (cosine[:16] > 0.9).double().mean() >= 0.75  # shared
    assert (cosine[16:] > 0.9).double().mean() >= 0.9  # of one model only


def test_specificity_tells_shared_from_exclusive(found):
    _, cosine, norms = found
    specificity = norms / norms.sum(1, keepdim=True)
    shared = specificity[:16][cosine[:16] > 0.9]
    assert (shared - 1 / 3).abs().max() < 0.1
    owner = torch.arange(3).repeat_interleave(8)
    exclusive = specificity[16:].gather(1, owner[:, None]).squeeze(1)[cosine[16:] > 0.9]
    assert exclusive.median() > 0.95 and exclusive.min() > 0.8


def test_new_rows_of_the_same_making_are_reconstructed(found):
    fresh = planted(24_000).rows[20_000:]
    assert min(evaluate(found[0], fresh).fve) > 0.9
