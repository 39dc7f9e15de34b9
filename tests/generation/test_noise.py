"""Gumbel noise and uniforms that are hashes of where they belong."""

import math

import numpy as np
import pytest
import torch
from elsewhere import GPU, pretended_gpu
from scipy.stats import chisquare, gumbel_r, kstest, poisson

from interp.generation.noise import (
    _GUMBEL,
    LARGEST,
    SMALLEST,
    _halves,
    _hash32,
    _keys,
    _log_log,
    add_gumbel,
    gumbel,
    uniform,
)

ROWS, VOCAB = 64, 3000
STEPS = torch.arange(ROWS) % 7
PROBLEMS = torch.arange(ROWS) * 5 + 2


def quantiles(noise):
    """The noise as numbers uniform over (0, 1)."""
    return torch.exp(-torch.exp(-noise.double()))


@pytest.fixture(scope="module")
def many():
    return gumbel(3, torch.arange(48), 1, 151_936)


def test_it_is_standard_gumbel_noise(many):
    assert many.dtype == torch.float32 and many.shape == (48, 151_936)
    assert kstest(many[:2].flatten().numpy(), gumbel_r.cdf).pvalue > 0.001
    for seed, problem, step in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), (2**40, 10**9, 4095)):
        noise = gumbel(seed, torch.tensor([problem]), step, 100_000)[0]
        assert kstest(noise.numpy(), gumbel_r.cdf).pvalue > 0.001
    assert kstest(gumbel(0, torch.arange(50_000), 0, 1)[:, 0].numpy(), gumbel_r.cdf).pvalue > 0.001, "over problems"
    one = torch.zeros(50_000, dtype=torch.long)
    assert kstest(gumbel(0, one, torch.arange(50_000), 1)[:, 0].numpy(), gumbel_r.cdf).pvalue > 0.001, "over steps"


def test_the_tails_are_as_heavy_as_they_should_be(many):
    for least in (4, 8, 10, 12):
        expected = many.numel() * -math.expm1(-math.exp(-least))
        assert 0.0005 < poisson.cdf(int((many > least).sum()), expected) < 0.9995
    for most in (-1.5, -2, -2.4):
        expected = many.numel() * math.exp(-math.exp(-most))
        assert 0.0005 < poisson.cdf(int((many < most).sum()), expected) < 0.9995


def test_it_is_bounded_finite_and_fine_where_it_is_large(many):
    bits = torch.tensor([[0, 1, 2**30, 2**31 - 2, 2**31 - 1]], dtype=torch.int32)
    ends = -_log_log(bits)
    exact = [-math.log(-math.log1p(-(b + 0.5) / 2**31)) for b in (0, 1, 2**30)]
    assert torch.allclose(ends[0, :3].double(), torch.tensor(exact).double(), rtol=1e-6)
    assert LARGEST - 0.01 < ends[0, 0] <= 32 * math.log(2) + 1e-5 and ends.max() == ends[0, 0]
    assert SMALLEST < ends[0, 4] == ends[0, 3] < SMALLEST + 0.01
    assert many.min() > SMALLEST and many.max() < LARGEST
    top = many.flatten().topk(20_000).values
    assert len(top.unique()) > 19_900


def test_every_bit_of_the_hash_is_fair_and_independent_of_its_neighbours():
    ids = torch.arange(40_000, dtype=torch.int32)
    x = _hash32(ids, _halves(_keys(0, _GUMBEL, torch.arange(8), 0)))
    assert x.min() >= 0
    bits = torch.stack([(x >> b) & 1 for b in range(31)]).flatten(1).double() * 2 - 1
    n = bits.shape[1]
    limit = 4.5 / math.sqrt(n)
    assert bits.mean(1).abs().max() < limit
    assert ((bits @ bits.T) / n - torch.eye(31)).abs().max() < 5 / math.sqrt(n), "bits of one hash"
    for shift in (1, 2, 64, 8192, 32_768, 40_000):  # ids near and far, the next problem
        assert ((bits[:, shift:] @ bits[:, :-shift].T) / (n - shift)).abs().max() < 5 / math.sqrt(n - shift)


def table(a, b, cells=16):
    """p-value of independence of two columns of numbers uniform over (0, 1)."""
    where = (a * cells).long().clamp(max=cells - 1) * cells + (b * cells).long().clamp(max=cells - 1)
    return chisquare(torch.bincount(where.flatten(), minlength=cells * cells).numpy()).pvalue


@pytest.mark.parametrize("step", [1, 2, 64, 1000])
def test_neighbours_are_independent(step):
    problems = torch.arange(40)

    def noise(seed=0, problems=problems, at=0):
        return quantiles(gumbel(seed, problems, at, 4000))

    first = noise()
    others = {
        "ids": (first[:, :-step], first[:, step:]),
        "problems": (first, noise(problems=problems + step)),
        "steps": (first, noise(at=step)),
        "seeds": (first, noise(seed=step)),
        "problem and step": (noise(at=step), noise(problems=problems + step)),
        "problem and seed": (noise(seed=step), noise(problems=problems + step)),
    }
    for name, (a, b) in others.items():
        correlation = np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1]
        assert abs(correlation) < 4.5 / math.sqrt(a.numel()), name
        assert table(a, b) > 1e-4, name


@pytest.mark.parametrize("distance", [1, 2, 4, 1024, 65_536, 131_072])
def test_two_ids_are_independent_over_places(distance):
    """A fault of one pair of ids, the same at every place, would not show in whole rows."""
    n, firsts = 10_000, torch.tensor([0, 7, 9000, 20_000])
    keys = _halves(_keys(5, _GUMBEL, torch.arange(n), 1))
    a, b = (_hash32(ids.int(), keys).double() / 2**31 for ids in (firsts, firsts ^ distance))
    for x, y in zip(a.T, b.T, strict=True):
        assert abs(np.corrcoef(x.numpy(), y.numpy())[0, 1]) < 4.5 / math.sqrt(n)
        assert table(x, y) > 1e-4


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_argmax_is_a_sample_of_the_softmax(temperature):
    n = 60_000
    logits = 1.5 * torch.randn(30, generator=torch.Generator().manual_seed(0))
    expected = n * (logits.double() / temperature).softmax(0).numpy()
    common = expected > 5
    for noise in (
        gumbel(0, torch.arange(n), 3, 30),
        gumbel(7, torch.zeros(n, dtype=torch.long), torch.arange(n), 30),
        gumbel(1, torch.arange(n) // 200, torch.arange(n) % 200, 30),
    ):
        counts = torch.bincount((logits / temperature + noise).argmax(1), minlength=30).numpy()
        pairs = [*zip(counts[common], expected[common], strict=True), (counts[~common].sum(), expected[~common].sum())]
        found, wanted = zip(*(pair for pair in pairs if pair[1] > 0), strict=True)
        assert chisquare(found, wanted).pvalue > 0.001


def test_the_argmax_of_a_large_vocabulary_is_a_sample_of_the_softmax():
    """Among them ids far apart, whose noise is made in different pieces."""
    logits = torch.full((151_936,), -30.0)
    ids, weights = [0, 1, 8191, 8192, 65_536, 151_935], torch.tensor([0.3, 0.25, 0.2, 0.15, 0.06, 0.04])
    logits[ids] = weights.log()
    found = torch.cat([(logits + gumbel(0, torch.arange(50), t, len(logits))).argmax(1) for t in range(6)])
    counts = [int((found == i).sum()) for i in ids]
    assert sum(counts) == 300
    weights = weights.double().numpy()
    assert chisquare(counts, 300 * weights / weights.sum()).pvalue > 0.001


def test_company_order_and_vocabulary_change_nothing():
    whole = gumbel(11, PROBLEMS, STEPS, VOCAB)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    assert torch.equal(gumbel(11, PROBLEMS[order], STEPS[order], VOCAB), whole[order])
    for rows in ([0], [5], [63], [3, 3, 9], list(range(17))):
        assert torch.equal(gumbel(11, PROBLEMS[rows], STEPS[rows], VOCAB), whole[rows])
    for vocab in (1, 7, 50, 2048, 20_011, 151_936):
        least = min(vocab, VOCAB)
        assert torch.equal(gumbel(11, PROBLEMS[:3], STEPS[:3], vocab)[:, :least], whole[:3, :least])


@pytest.mark.parametrize("vocab", [1, 50, 20_011])
def test_noise_is_added_in_place(vocab):
    scores = torch.randn(ROWS, vocab, generator=torch.Generator().manual_seed(0))
    expected = scores + gumbel(11, PROBLEMS, STEPS, vocab)
    add_gumbel(scores, 11, PROBLEMS, STEPS)
    assert torch.equal(scores, expected)


def test_one_step_for_all_is_that_step_of_each():
    assert torch.equal(gumbel(0, PROBLEMS, 4, 99), gumbel(0, PROBLEMS, torch.full((ROWS,), 4), 99))
    assert torch.equal(gumbel(0, PROBLEMS.int(), 4, 99), gumbel(0, PROBLEMS, 4, 99))
    assert torch.equal(uniform(0, PROBLEMS, 4, 0), uniform(0, PROBLEMS, torch.full((ROWS,), 4), 0))


def test_threads_change_nothing():
    one = gumbel(0, torch.arange(5), 0, 40_011)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(gumbel(0, torch.arange(5), 0, 40_011), one)
    finally:
        torch.set_num_threads(before)


def test_no_two_places_share_their_noise():
    """Seeds, problems and steps of every size, and near multiples of each other; two rows of four fp32 numbers agree by
    chance once in 10^25."""
    seeds = [
        *range(8),
        63,
        64,
        65,
        1000,
        65_536,
        2**31 - 1,
        2**31,
        2**32 - 1,
        2**32,
        2**32 + 1,
        2**33,
        2**63,
        2**64 - 1,
    ]
    numbers = torch.tensor([*range(40), 64, 1000, 2**31, 2**32, 2**32 + 1, 2**62])
    problems, steps = numbers.repeat_interleave(len(numbers)), numbers.repeat(len(numbers))
    rows = torch.cat([gumbel(seed, problems, steps, 4) for seed in seeds])
    assert len(rows.unique(dim=0)) == len(rows) == len(seeds) * len(numbers) ** 2
    assert torch.equal(gumbel(-1, PROBLEMS, 0, 5), gumbel(2**64 - 1, PROBLEMS, 0, 5)), "seeds count modulo 2^64"


def test_the_numbers_stay_the_same_from_version_to_version():
    noise = gumbel(17, torch.tensor([0, 123_456]), torch.tensor([0, 4095]), 151_936)[:, [0, 1, 151_935]]
    wanted = [[-0.40173104, -0.18547982, -1.59504235], [-1.20161211, 1.45417202, 1.83731484]]
    assert torch.allclose(noise, torch.tensor(wanted), rtol=0, atol=2e-6)
    assert uniform(17, torch.tensor([0, 123_456]), torch.tensor([0, 4095]), 3).tolist() == [
        0.6608159592507444,
        0.3198461764945083,
    ]


def test_every_device_makes_the_same(device):
    noise = gumbel(1, PROBLEMS.to(device), STEPS.to(device), 777)
    assert noise.device.type == device.type
    here = gumbel(1, PROBLEMS.cpu(), STEPS.cpu(), 777)
    assert torch.allclose(noise.cpu(), here, rtol=0, atol=4e-6)
    assert torch.equal(uniform(1, PROBLEMS.to(device), 3, 0).cpu(), uniform(1, PROBLEMS.cpu(), 3, 0))


def test_the_pretended_gpu_makes_the_same_to_the_bit():
    here = gumbel(1, PROBLEMS, STEPS, 777)
    with pretended_gpu():
        there = gumbel(1, PROBLEMS.to(GPU), STEPS.to(GPU), 777).cpu()
    assert torch.equal(there, here)


def test_uniform_numbers():
    n = 50_000
    problems, one = torch.arange(n), torch.zeros(n, dtype=torch.long)
    streams = {
        "problems": uniform(0, problems, 0, 0),
        "steps": uniform(0, one, torch.arange(n), 0),
        "another stream": uniform(0, problems, 0, 1),
        "another seed": uniform(1, problems, 0, 0),
        "the noise of the first id": quantiles(gumbel(0, problems, 0, 1)[:, 0]),
    }
    for name, u in streams.items():
        assert u.min() > 0 and u.max() < 1
        assert kstest(u.numpy(), "uniform").pvalue > 0.001, name
        assert table(u[1:], u[:-1]) > 1e-4, name
    first = streams.pop("problems")
    assert first.dtype == torch.float64
    for name, u in streams.items():
        assert abs(np.corrcoef(first.numpy(), u.numpy())[0, 1]) < 4.5 / math.sqrt(n), name
        assert table(first, u) > 1e-4, name


def test_no_rows_no_noise():
    none = torch.zeros(0, dtype=torch.long)
    assert (
        gumbel(0, none, 0, 5).shape == (0, 5)
        and gumbel(0, PROBLEMS, 0, 0).shape == (ROWS, 0)
        and uniform(0, none, 0, 0).shape == (0,)
    )
