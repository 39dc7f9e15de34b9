"""Claims of exclusive latents between models of which it is known what is exclusive."""

import polars as pl
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig
from interp.features.nulls import SCHEMA, claimed, pairs

D, N, LATENTS = 16, 4000, 24


def sparse(seed, directions):
    """Rows that are sums of two random directions each."""
    generator = torch.Generator().manual_seed(seed)
    n = len(directions)
    code = torch.zeros(N, n).scatter_(1, torch.rand(N, n, generator=generator).topk(2, dim=1).indices, 1.0)
    return (code * (1 + torch.rand(N, n, generator=generator))) @ directions


def orthogonal(seed, n=12):
    return torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(seed)))[0][:n]


def test_what_each_pair_holds():
    base, subject, control = (torch.randn(N, D, generator=torch.Generator().manual_seed(i)) for i in range(3))
    made = {(first, second): (why, rows) for first, second, why, rows in pairs(base, subject, control, 0)}
    assert list(made) == [
        ("base", "distilled"),
        ("distilled", "distilled"),
        ("distilled", "distilled, bf16 noise"),
        ("base", "control"),
        ("base", "distilled, other tokens"),
    ]
    rows = {key: rows for key, (_, rows) in made.items()}
    assert torch.equal(rows["base", "distilled"], torch.stack([base, subject], 1))
    assert torch.equal(rows["distilled", "distilled"], torch.stack([subject, subject], 1))
    assert torch.equal(rows["base", "control"], torch.stack([base, control], 1))
    one, two = rows["distilled", "distilled, bf16 noise"].unbind(1)
    for noisy in (one, two):
        assert 0.5 * 2**-8 < ((noisy - subject) / subject).std() < 2 * 2**-8
    assert not torch.equal(one, two), "of its own in each"
    still, moved = rows["base", "distilled, other tokens"].unbind(1)
    assert torch.equal(still, base) and not torch.equal(moved, subject)
    assert torch.equal(moved.sort(0).values, subject.sort(0).values), "the same rows in another order"
    assert (moved == subject).all(1).float().mean() < 0.01
    assert len(list(pairs(base, subject, None, 0))) == 4


def count(first, second):
    shape = CrosscoderConfig(n_models=2, d_model=D, n_latents=LATENTS, k=4)
    recipe = TrainConfig(steps=600, batch_size=256, lr=3e-3)
    return claimed(torch.stack([first, second], 1), shape, recipe, torch.device("cpu"))


def test_a_model_and_itself_hold_no_exclusive_latent_and_strangers_many():
    same = sparse(0, orthogonal(0))
    none, all_ = count(same, same), count(same, sparse(1, orthogonal(1)))
    assert none["by_norm"] == none["exclusive"] == 0 and none["alive"] >= 10
    assert all_["by_norm"] >= all_["exclusive"] >= 10
    assert none["fve"] > 0.8 and none["rows"] == N and none["l0"] > 1
    told = pl.DataFrame([{"first": "a", "second": "b", "why": "c"} | none], schema=SCHEMA)
    assert told["exclusive"][0] == 0
