import numpy as np
import pytest
import torch
from small import code64, small_crosscoder

from interp.crosscoder import CrosscoderConfig, TrainConfig, train
from interp.features.catalogue import describe
from interp.features.codes import encode_sparse
from interp.features.specificity import latent_scaling, nu, smallest_cosine, specificity, worst_other

from .samples import NAMES, labelled, sparse_rows


def test_latent_scaling_is_the_protocols_formula():
    """β = Σ_t f_j(t)⟨d_j, y_t⟩ / (Σ_t f_j(t)²‖d_j‖²), a row at a time, in fp64. The reconstruction is taken about its
    bias, which is there whatever the latent does."""
    cc, x = small_crosscoder(), sparse_rows(120)
    f = code64(cc, x)
    w, bias = cc.W_dec.double(), cc.b_dec.double()
    normal = (x.double() - cc.mean.double()) * cc.scale.double()
    found = latent_scaling(cc, x)
    checked = 0
    for j in range(0, 24, 3):
        if not f[:, j].any():
            continue
        for probe in range(3):
            for target in range(3):
                d = w[j, probe]
                tops, bottom = [0.0, 0.0], 0.0
                for t in range(len(x)):
                    recon = sum(f[t, i] * w[i, target] for i in range(24)) + bias[target]
                    error = normal[t, target] - (recon - f[t, j] * w[j, target])
                    tops[0] += float(f[t, j] * (d @ error))
                    tops[1] += float(f[t, j] * (d @ (recon - bias[target])))
                    bottom += float(f[t, j] ** 2 * (d @ d))
                assert float(found.error[j, probe, target]) == pytest.approx(tops[0] / bottom, abs=1e-3)
                assert float(found.reconstruction[j, probe, target]) == pytest.approx(tops[1] / bottom, abs=1e-3)
                checked += 1
    assert checked >= 45


def test_specificity_and_cosine_by_hand():
    w = torch.zeros(3, 3, 4)
    w[0, :, 0] = 1.0  # shared
    w[1, 2, 1] = 5.0  # of the last model alone
    w[2, 0, 0], w[2, 1, 1], w[2, 2, 0] = 1.0, 1.0, 2.0  # rotated in one model
    torch.testing.assert_close(specificity(w), torch.tensor([[1, 1, 1], [0, 0, 3], [0.75, 0.75, 1.5]]) / 3)
    torch.testing.assert_close(smallest_cosine(w)[[0, 2]], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(smallest_cosine(w * torch.rand(3, 3, 1).add(0.1))[0], torch.tensor(1.0))


def test_ratios_are_to_the_claimed_models_own_and_the_worst_of_the_others_counts():
    beta = torch.tensor([[[2.0, 1.0, -0.5], [9, 9, 9], [1, 1, 4.0]], [[-1.0, 5, 5], [1, 0.5, 0.1], [0, 0, 1.0]]])
    ratios = nu(beta)
    torch.testing.assert_close(ratios[0, 0], torch.tensor([1.0, 0.5, -0.25]))
    assert torch.isinf(ratios[1, 0]).all(), "a claim whose own part is not there is never small"
    assert worst_other(ratios, torch.tensor([0, 1])).tolist() == pytest.approx([0.5, 2.0])
    assert worst_other(ratios, torch.tensor([2, 2])).tolist() == pytest.approx([0.25, 0.0])
    opposed = torch.tensor([[[1.0, -0.7, 0.2], [0, 1, 0], [0, 0, 1]]])
    assert worst_other(opposed, torch.tensor([0])).tolist() == pytest.approx([0.7]), "a negative share counts as much"


def planted(n, d=16, seed=0):
    """Three models' rows of four orthogonal directions: 0 and 1 in all models, 2 and 3 in the distilled one alone."""
    generator = torch.Generator().manual_seed(seed)
    f = (torch.rand(n, 4, generator=generator) < 0.25) * (1 + torch.rand(n, 4, generator=generator))
    here = torch.ones(4, 3)
    here[2:, [0, 2]] = 0
    directions = torch.eye(d)[:4][:, None] * here[..., None]
    return torch.einsum("bl,lmd->bmd", f, directions) + 0.01 * torch.randn(n, 3, d, generator=generator), directions


def crosscoder_of(directions):
    cc = small_crosscoder(d_model=directions.shape[2], n_latents=len(directions), threshold=0.6)
    with torch.no_grad():
        cc.mean.zero_(), cc.scale.fill_(1.0), cc.b_enc.zero_(), cc.b_dec.zero_()
        cc.W_dec.copy_(directions)
        cc.W_enc.copy_((directions / directions.square().sum((1, 2), keepdim=True)).permute(1, 2, 0))
    return cc


def described(cc, x, folder):
    return describe(cc, encode_sparse(cc, x.bfloat16()), labelled(folder, x, [len(x)]))


def test_planted_exclusive_latents_are_claimed_and_shared_ones_are_not(tmp_path):
    x, directions = planted(800)
    table = described(crosscoder_of(directions), x, tmp_path / "store")
    assert table["exclusive_to"].to_list() == [None, None, "distilled", "distilled"]
    assert table["decoder_norm"].to_list() == pytest.approx([3, 3, 1, 1]), "of all models together"
    assert table["nu_error_max"].to_numpy()[2:].max() < 0.05
    assert table["nu_error_max"].to_numpy()[:2].min() > 0.8
    assert table["firing_rate"].to_numpy() == pytest.approx(np.full(4, 0.25), abs=0.06)


def test_a_latent_that_only_its_norm_calls_exclusive_is_found_out(tmp_path):
    """The dictionary gives direction 0 to the distilled model alone, though all models have it: the others' error
    holds it, and no claim is made (the artefact of Minder, Dumas et al. 2025)."""
    x, directions = planted(800)
    lame = directions.clone()
    lame[0, [0, 2]] = 0
    table = described(crosscoder_of(lame), x, tmp_path / "store")
    row = table.row(0, named=True)
    assert row["exclusive_by_norm"] == "distilled"
    assert row["nu_error_max"] > 0.8
    assert row["exclusive_to"] is None


def test_a_model_against_itself_has_no_exclusive_latent(tmp_path):
    one = planted(600, seed=1)[0][:, 1:2]
    x = one.expand(-1, 3, -1).contiguous()
    shape = CrosscoderConfig(n_models=3, d_model=16, n_latents=12, k=2)
    cc = train(x, shape, TrainConfig(steps=60, batch_size=128, lr=1e-2))
    for crosscoder in (cc, small_crosscoder()):
        table = described(crosscoder.requires_grad_(False), x, tmp_path / "store")
        assert table["firing_rate"].max() > 0
        assert table["exclusive_to"].null_count() == len(table)
    symmetric = described(cc, x, tmp_path / "store")
    for name in NAMES:
        assert symmetric[f"specificity_{name}"].to_numpy() == pytest.approx(np.full(12, 1 / 3), abs=1e-3)


def test_dead_latents_are_claimed_for_no_model(tmp_path):
    x, directions = planted(300)
    cc = crosscoder_of(directions)
    cc.b_enc[2] = -100.0
    table = described(cc, x, tmp_path / "store")
    assert table["firing_rate"][2] == 0
    assert table["exclusive_to"][2] is None and table["exclusive_by_norm"][2] is None
    assert np.isnan(table["nu_error_max"][2])
