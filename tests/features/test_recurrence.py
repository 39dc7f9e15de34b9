"""Latents of other dictionaries: matched one to one by their decoders, and the same only where these are alike."""

import polars as pl
import pytest
import torch

from interp.features.matched import SAME
from interp.features.recurrence import SCHEMA, own_set, recurrence, recurring
from tests.features.decisions import SLOT, D, linear_decision
from tests.features.test_selection import codes, weights


def decision(w=(3.0, 2.0), order=None, bias=-6.25):
    """The planted decision; in `order` the dictionary's latents are numbered anew, each with its code."""
    f = codes(4.0)
    found = linear_decision(f[0], f[1], weights(*w), bias=bias)
    if order is not None:
        found.crosscoder.W_dec[:] = found.crosscoder.W_dec[order].clone()
        for side in (found.positive, found.negative):
            side.f[:] = side.f[:, order].clone()
    return found


def test_a_latent_is_found_again_under_another_number():
    order = torch.randperm(D, generator=torch.Generator().manual_seed(1))
    table = recurrence(decision(), {7: decision(order=order)}, [0, 1])
    assert table.schema == pl.Schema(SCHEMA)
    assert table["partner"].to_list() == [order.tolist().index(0), order.tolist().index(1)]
    assert table["cosine"].to_list() == pytest.approx([1.0, 1.0]) and table["dictionary"].to_list() == [7, 7]
    assert recurring(table, [0, 1]) == [0, 1]


def test_only_the_subjects_decoders_count():
    other = decision()
    other.crosscoder.W_dec[:, SLOT] = torch.roll(torch.eye(D), 20, dims=0)
    table = recurrence(decision(), {1: other}, [0])
    assert table["partner"].to_list() == [20]
    other.crosscoder.W_dec[:, [0, 2]] = torch.randn(D, 2, D, generator=torch.Generator().manual_seed(0))
    assert recurrence(decision(), {1: other}, [0]).equals(table)


def test_two_latents_do_not_share_a_partner():
    other = decision()
    other.crosscoder.W_dec[1, SLOT] = torch.eye(D)[5]
    f = decision()
    f.crosscoder.W_dec[1, SLOT] = torch.eye(D)[0] + 0.1 * torch.eye(D)[1]
    table = recurrence(f, {1: other}, [0, 1])
    assert table["partner"].n_unique() == 2
    assert table["recurs"].to_list() == [True, False]


def test_a_latent_that_fires_nowhere_there_is_no_partner():
    other = decision()
    for side in (other.positive, other.negative):
        side.f[:, 0] = 0.0
    row = recurrence(decision(), {1: other}, [0]).row(0, named=True)
    assert row["cosine"] < SAME and not row["recurs"] and row["partner"] != 0


def table_of(*recurs):
    """One latent in as many other dictionaries."""
    rows = [
        {"latent": 3, "dictionary": i, "partner": 5, "cosine": 0.9 if r else 0.2, "recurs": r}
        for i, r in enumerate(recurs, 1)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


@pytest.mark.parametrize(
    ("recurs", "is_finding"),
    [
        ((), True),
        ((True,), True),
        ((False,), False),
        ((True, False), True),
        ((False, False), False),
        ((True, False, False, False), False),
    ],
)
def test_two_in_three_dictionaries_are_asked_for(recurs, is_finding):
    assert recurring(table_of(*recurs), [3]) == ([3] if is_finding else [])


def test_a_latent_of_the_negative_side_alone_has_a_partner_too():
    one, other = decision(), decision()
    for found in (one, other):
        found.positive.f[:, 5], found.negative.f[:, 5] = 0.0, 4.0
    row = recurrence(one, {1: other}, [5]).row(0, named=True)
    assert (row["partner"], row["recurs"]) == (5, True)


def test_another_dictionarys_own_set_does_not_depend_on_a_match():
    order = torch.randperm(D, generator=torch.Generator().manual_seed(2))
    other = decision(order=order)
    found = own_set(other, other)
    assert found["latents"] == [order.tolist().index(0), order.tolist().index(1)] and found["carries"]
    assert found["onset_ablated"] < 0.01 < 0.99 < found["onset"]
    none = decision(w=())
    assert own_set(none, none)["carries"] is False
