import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import D_MODEL, code64, small_crosscoder

from interp.causal.edits import AddDirection, ReconstructionOnly, ScaleLatents, scale_sets


def rows(n=50, seed=3):
    return 3 * torch.randn(n, 3, D_MODEL, generator=torch.Generator().manual_seed(seed))


def copies(n, of):
    return torch.arange(n) % of


@given(seed=st.integers(0, 200), slot=st.integers(0, 2), latents=st.sets(st.integers(0, 23), min_size=1))
@settings(max_examples=15, deadline=None)
def test_a_factor_of_one_changes_nothing_at_all(seed, slot, latents):
    x = rows(seed=seed)
    edit = ScaleLatents(small_crosscoder(), slot, torch.tensor(sorted(latents)), torch.ones(2, len(latents)))
    assert torch.count_nonzero(edit.delta(x, copies(len(x), 2))) == 0


@pytest.mark.parametrize("factor", [0.0, 3.0, -1.0])
@pytest.mark.parametrize("slot", [0, 1, 2])
def test_the_change_is_the_sum_of_the_latents_changes_in_input_units(slot, factor):
    cc, x, chosen = small_crosscoder(), rows(), [2, 5, 7, 19]
    f = code64(cc, x)
    assert (f[:, chosen] > 0).any(0).all(), "a latent that never fires would test nothing"
    wanted = torch.zeros(len(x), D_MODEL, dtype=torch.float64)
    for j in chosen:
        d = cc.W_dec[j, slot].double() / cc.scale[slot].double()
        wanted += (factor - 1) * f[:, j, None] * d
    edit = scale_sets(cc, slot, [chosen], factor, untouched_first=False)
    torch.testing.assert_close(
        edit.delta(x, torch.zeros(len(x), dtype=torch.long)).double(), wanted, atol=1e-4, rtol=1e-4
    )


def test_ablation_keeps_the_error_term():
    """What is left after ablating every latent is what the dictionary never explained, on top of its bias."""
    cc, x = small_crosscoder(), rows()
    edit = scale_sets(cc, 1, [list(range(24))], 0.0, untouched_first=False)
    after = x[:, 1] + edit.delta(x, torch.zeros(len(x), dtype=torch.long))
    error = x[:, 1] - cc.decode(cc.encode(x))[:, 1]
    bias = cc.mean[1] + cc.b_dec[1] / cc.scale[1]
    torch.testing.assert_close(after, bias + error, atol=1e-4, rtol=1e-4)


def test_every_copy_gets_its_own_set_and_copy_0_none():
    cc, x, sets = small_crosscoder(), rows(30), [[1, 2], [], [2, 9, 11]]
    edit = scale_sets(cc, 0, sets, 0.0)
    whose = copies(30, 4)
    delta = edit.delta(x, whose)
    for copy, chosen in enumerate([[], *sets]):
        here = whose == copy
        if not chosen:
            assert torch.count_nonzero(delta[here]) == 0
            continue
        alone = scale_sets(cc, 0, [chosen], 0.0, untouched_first=False)
        wanted = alone.delta(x[here], torch.zeros(int(here.sum()), dtype=torch.long))
        assert torch.count_nonzero(wanted) > 0
        torch.testing.assert_close(delta[here], wanted, atol=1e-5, rtol=1e-5)


def test_directions_go_to_their_copies():
    vectors = torch.stack([torch.zeros(D_MODEL), torch.arange(D_MODEL).float()])
    delta = AddDirection(vectors).delta(rows(4), torch.tensor([1, 0, 0, 1]))
    assert torch.equal(delta, vectors[[1, 0, 0, 1]])


@pytest.mark.parametrize("slot", [0, 2])
def test_reconstruction_and_error_arms_split_the_residual(slot):
    cc, x = small_crosscoder(), rows()
    whose = torch.zeros(len(x), dtype=torch.long)
    own, recon = x[:, slot], cc.decode(cc.encode(x))[:, slot]
    replaced = own + ReconstructionOnly(cc, slot, keep_error=False).delta(x, whose)
    left = own + ReconstructionOnly(cc, slot, keep_error=True).delta(x, whose)
    torch.testing.assert_close(replaced, recon, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(left, cc.mean[slot] + (own - recon), atol=1e-5, rtol=1e-5)
