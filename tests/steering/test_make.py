"""Where a direction comes from, on which problems, and what its file says."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small import D_MODEL

import interp.steering.make as making
from interp.causal.steering import Direction
from interp.errors import InterpError
from interp.folders import digest
from interp.models.revision import revision
from interp.stages.activation_arms import behaviour_direction
from interp.steering import run
from interp.steering.inputs import Inputs, require
from interp.steering.make import make
from tests.steering.samples import PLAIN, changed, make_study

pytestmark = pytest.mark.usefixtures("stages_are_there")


def test_it_is_the_difference_inside_against_elsewhere_on_untested_problems(shared):
    found, inputs = make(shared), Inputs(shared)
    same = behaviour_direction(inputs.data, {p.id for p in inputs.tested})
    assert torch.equal(found.vector, same.vector)
    about = found.provenance
    assert (found.hook_name, about.method, about.positions) == (same.hook_name, "difference_of_means", "inside")
    assert about.model_hash == revision(str(shared.root / "checkpoints" / "distilled"))
    assert about.evidence["made"]["tested"] == 8
    rows = inputs.data.rows[inputs.rows_of_making(), 1].float()
    assert about.residual_norm == pytest.approx(float(rows.norm(dim=1).mean()))
    tested = {p.id for p in inputs.tested}
    assert not tested & set(inputs.data.row_problem[inputs.rows_of_making().numpy()])
    untested = [r for r in inputs.traces.iter_rows(named=True) if r["problem"] not in tested]
    assert about.texts_hash == digest([(r["problem"], r["prompt_ids"], r["completion_ids"]) for r in untested])


@pytest.mark.parametrize("at", ["onset", "forks", "before"])
def test_other_tokens_give_other_directions(shared, at):
    found = make(changed(shared, at=at))
    assert found.provenance.positions == ("before 13 to 8" if at == "before" else at)
    assert found.cosine(make(shared)) < 0.999


def test_a_probe_points_the_same_way(shared):
    assert make(changed(shared, source="probe")).cosine(make(shared)) > 0


def test_without_behaviours_it_is_refused(models, tokenizer, tmp_path):
    study = make_study(tmp_path, models, tokenizer, texts=(PLAIN,))
    with pytest.raises(InterpError, match=r"no labelled rows: 0 at steering\.at = 'inside'"):
        make(study)


def test_it_is_kept_with_its_evidence_until_it_changes(shared, capsys):
    path = Inputs(shared).file
    run(shared, "make")
    old = Direction.load(path)
    noted = {**old.provenance.evidence, "usable_range": {"distilled": {"everywhere": [-1, 1]}}}
    about = type(old.provenance)(
        **{f: getattr(old.provenance, f) for f in old.provenance.__dataclass_fields__} | {"evidence": noted}
    )
    Direction(old.vector, old.layer, old.site, about).save(path)
    run(shared, "make")
    assert "already" in capsys.readouterr().out
    assert Direction.load(path).provenance.evidence["usable_range"]
    run(changed(shared, at="onset"), "make")
    assert "usable_range" not in Direction.load(path).provenance.evidence
    with pytest.raises(InterpError, match=r"made with steering.at = 'onset', now steering.at = 'inside'.*steer make"):
        Inputs(shared).direction()


@pytest.mark.parametrize(("site", "layer"), [("resid_post", 1), ("resid_post", 2), ("resid_mid", 0)])
def test_a_file_gets_the_unit_of_a_dose_at_its_own_site(shared, tmp_path, models, site, layer):
    Direction(torch.arange(1.0, D_MODEL + 1), layer, site).save(tmp_path / "v.safetensors")
    found = make(changed(shared, source="file", file=str(tmp_path / "v.safetensors")))
    assert torch.equal(found.vector, torch.arange(1.0, D_MODEL + 1))
    h = Inputs(shared).residual(layer, site)
    assert found.provenance.residual_norm == pytest.approx(float(h.norm(dim=1).mean()))


def test_the_residual_of_the_model_is_that_of_the_store(shared, monkeypatch):
    inputs = Inputs(shared)
    stored = inputs.residual(1, "resid_post")
    read = inputs.residual(2, "resid_pre")  # the same activation, by its other name
    gap = (stored[:, None] - read[None]).norm(dim=2).min(1).values / stored.norm(dim=1)
    assert gap.max() < 0.01  # bf16


@pytest.mark.parametrize(
    ("tensor", "options", "said"),
    [
        (torch.ones(D_MODEL + 1), {"layer": 1, "site": "resid_post"}, "17 coordinates, not 16"),
        (torch.full((D_MODEL,), float("nan")), {"layer": 1, "site": "resid_post"}, "NaN"),
        (torch.ones(D_MODEL), {"layer": 3, "site": "resid_post"}, "blocks 0 to 2"),
        (torch.ones(D_MODEL), {"site": "resid_post"}, "does not say"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(shared, tmp_path, tensor, options, said):
    save_file({"v": tensor}, tmp_path / "v.safetensors")
    with pytest.raises(InterpError, match=said) as error:
        make(changed(shared, source="file", file=str(tmp_path / "v.safetensors"), **options))
    assert "\n" not in str(error.value)


def test_latents_are_weighted_with_how_much_more_they_fire(shared, monkeypatch):
    from small import small_crosscoder

    cc = small_crosscoder(threshold=0.0)
    folder = shared.folder("crosscoder")
    cc.save(folder)
    study = changed(shared, source="latents", latents=[3, 7])
    found, inputs = make(study), Inputs(study)
    f = cc.encode(inputs.data.rows.float())
    ours = inputs.rows_of_making().numpy()
    means = [
        f[torch.from_numpy(ours & side)].mean(0)
        for side in (inputs.data.in_any("inside"), inputs.data.in_all("elsewhere"))
    ]
    weights = (means[0] - means[1])[[3, 7]]
    wanted = (weights[:, None] * cc.W_dec[[3, 7], 1] / cc.scale[1]).sum(0)
    assert torch.allclose(found.vector, wanted, rtol=1e-3, atol=1e-4)
    assert found.provenance.latents == (3, 7)
    with pytest.raises(InterpError, match="no latent 24"):
        make(changed(shared, source="latents", latents=[24]))


def test_a_missing_stage_is_named(shared):
    with pytest.raises(InterpError, match="run `interp features` first"):
        require(shared, "features")


def test_rows_of_both_sides_are_disjoint(shared):
    inputs = Inputs(shared)
    first, second, _ = making._sides(inputs)
    assert not np.any(first & second)
