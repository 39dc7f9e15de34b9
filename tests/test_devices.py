"""The same work on every device: on the CPU, on a GPU where there is one, and on a pretended one everywhere.

The pretended GPU computes on the CPU, so its results must be the CPU's to the bit; a real one's agree to a tolerance.
"""

from dataclasses import replace

import pytest
import torch
from elsewhere import Elsewhere, MixedDevicesError, pretended_gpu
from features.samples import labelled
from polars.testing import assert_frame_equal
from small import small_crosscoder, small_model

from interp.activations.harvest import Harvest
from interp.activations.texts import Text
from interp.causal.decoding import EditedDecoder
from interp.causal.edits import (
    Add,
    Echo,
    NoEdit,
    Redraw,
    Scene,
    SetComponent,
    ablate,
    add_decoder_difference,
    affirm,
    ban,
    error_only,
    fired,
    insert,
    patch_from,
    reconstruction_only,
    substitute,
    transplant,
    zero,
)
from interp.causal.places import COMPLETION, FORKS, after_first, markers, random
from interp.crosscoder import CrosscoderConfig, TrainConfig, evaluate, train
from interp.features.catalogue import describe
from interp.features.codes import encode_sparse
from interp.features.specificity import latent_scaling, nu, worst_other
from interp.generation.part import Job
from interp.generation.sampling import CachedModel, generate, write, writing
from interp.generation.vocabulary import read_vocabulary
from interp.models.hooks import Site
from interp.names import COMPARED
from interp.traces.lexicon import load_lexicon
from interp.traces.tokens import encode

PROMPTS = ["Q 1 + 2 A", "Q 3 * 4 - 5 A", "Q 7 A"]
TEXTS = [Text([5, 6, 7, 8, 9, 10], "base", "p", 2), Text([5, 6, 7], "base", "q", 2)]


def agree(found, wanted, device):
    found, wanted = torch.as_tensor(found).cpu(), torch.as_tensor(wanted)
    if device.type == "cuda" and not isinstance(torch.zeros(1, device=device), Elsewhere):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(found, wanted)


def trio(device):
    return {name: small_model(seed).to(device) for seed, name in enumerate(COMPARED)}


def rows(n=3000, seed=0):
    return torch.randn(n, 2, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("activation", "k", "sparsity"),
    [("batch_topk", 3, 0.0), ("topk", 3, 0.0), ("jumprelu", None, 0.1), ("relu", None, 0.1)],
)
def test_training_and_measuring(device, activation, k, sparsity):
    """With latents that die, so that AuxK is at work."""
    config = CrosscoderConfig(n_models=2, d_model=8, n_latents=64, k=k, activation=activation)
    recipe = TrainConfig(steps=30, batch_size=64, log_every=10, sparsity=sparsity, dead_after_rows=200)
    there, here = train(rows(), config, recipe, device=device), train(rows(), config, recipe)
    for name, weight in here.state_dict().items():
        agree(there.state_dict()[name], weight, device)
    agree(evaluate(there, rows(200, 1)).fve, evaluate(here, rows(200, 1)).fve, device)


def test_a_killed_training_resumes(device, tmp_path):
    config = CrosscoderConfig(n_models=2, d_model=8, n_latents=64, k=3)
    recipe = TrainConfig(steps=12, batch_size=64, log_every=1, dead_after_rows=200)

    def killed(step, _):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(rows(), config, recipe, device=device, on_step=killed, checkpoint=tmp_path, checkpoint_every=5)
    resumed = train(rows(), config, recipe, device=device, checkpoint=tmp_path, checkpoint_every=5)
    agree(resumed.encoder, train(rows(), config, recipe).encoder, device)


def test_encoding_and_decoding(device):
    x = torch.randn(50, 3, 16, generator=torch.Generator().manual_seed(1))
    here, there = small_crosscoder(), small_crosscoder().to(device)
    agree(there.encode(x.to(device)), here.encode(x), device)
    agree(there.decode(there.encode(x.to(device))), here.decode(here.encode(x)), device)
    agree(there.encode(x.to(device), torch.tensor([3, 1], device=device)), here.encode(x, torch.tensor([3, 1])), device)


def test_the_catalogues_statistics(device):
    """Rows are on the CPU, wherever the crosscoder is."""
    x = torch.randn(300, 3, 16, generator=torch.Generator().manual_seed(1))
    here, there = small_crosscoder(), small_crosscoder().to(device)
    agree(encode_sparse(there, x).toarray(), encode_sparse(here, x).toarray(), device)
    found, wanted = latent_scaling(there, x), latent_scaling(here, x)
    agree(found.error, wanted.error, device)
    agree(found.reconstruction, wanted.reconstruction, device)
    claimed = torch.zeros(24, dtype=torch.long)
    agree(worst_other(nu(found.error), claimed.to(device)), worst_other(nu(wanted.error), claimed), device)


def test_the_catalogue(device, tmp_path):
    """The table itself: names, flags and numbers."""
    x = torch.randn(60, 3, 16, generator=torch.Generator().manual_seed(1))
    data, tables = labelled(tmp_path, x, [20, 25, 15]), []
    for crosscoder in (small_crosscoder().to(device), small_crosscoder()):
        tables.append(describe(crosscoder, encode_sparse(crosscoder, data.rows), data))
    assert_frame_equal(*tables, check_exact=False, abs_tol=1e-6)


def test_sampling(device, tokenizer):
    def ids(models, temperature):
        done = generate(CachedModel(models["base"]), tokenizer, PROMPTS, max_new_tokens=12, temperature=temperature)
        return [r.completion_ids for r in done]

    for temperature in (0.0, 1.0):
        assert ids(trio(device), temperature) == ids(trio("cpu"), temperature)


def test_harvesting(device):
    def resid(models):
        return torch.cat(list(Harvest(models, TEXTS, Site(1), 0, 2)))

    agree(resid(trio(device)), resid(trio("cpu")), device)


LEXICON = replace(load_lexicon("default"), affirmation=" , right ,")
EDITS = {
    "latents": lambda cc: ablate(cc, [1, 2, 3, 4], 1),
    "means": lambda cc: ablate(cc, [1, 2], 1, to=[0.5, 1.0]).at(after_first(1)),
    "transplant": lambda cc: transplant(cc, [1, 2, 3], 1, source="base").at(COMPLETION & random(0.7)),
    "decoders": lambda cc: add_decoder_difference(cc, [1, 2, 3], 1, toward="zero_rl", model="distilled"),
    "reconstruction": lambda cc: reconstruction_only(cc, 1),
    "error": lambda cc: error_only(cc, 1, site="resid_mid"),
    "direction": lambda cc: Add(Site(1, "resid_pre"), torch.ones(16)).at(~FORKS & ~markers(LEXICON)),
    "component": lambda cc: SetComponent(Site(1), torch.ones(16), value=1.0),
    "patch": lambda cc: patch_from("base", 1, site="attn_out"),
    "heads": lambda cc: patch_from("base", 1, site="z", heads=(1,), n_heads=2),
    "zero": lambda cc: zero(1),
    "ban": lambda cc: ban(["wait", "9 9", "hmm"]),
    "substitute": lambda cc: substitute(["wait", "9", "7 7"], ["next", "now then"]),
    "affirm": lambda cc: affirm(LEXICON),
    "insert": lambda cc: insert([" wait ,"], 0.3),
    "echo": lambda cc: Echo(LEXICON),
    "redraw": lambda cc: Redraw(LEXICON),
}


@pytest.mark.parametrize("half", ["residual", "text"])
def test_edited_generation(device, tokenizer, half):
    """One job an edit, beside an untouched one and two edits at once, with another model's own prompts."""
    names = [name for name in EDITS if (list(EDITS).index(name) < list(EDITS).index("ban")) == (half == "residual")]

    def texts(where):
        models, crosscoder = trio(where), small_crosscoder().to(where)
        edits = [EDITS[name](crosscoder) for name in names] + [NoEdit()]
        edits.append(edits[0] | (EDITS["ban"] if half == "residual" else EDITS["latents"])(crosscoder))
        vocabulary, encoded = read_vocabulary(tokenizer, len(tokenizer)), [encode(tokenizer, p) for p in PROMPTS]
        running = [one.start(Scene(vocabulary, len(PROMPTS), 0, 1.0)) for one in edits]
        own = {"zero_rl": [[prompt[1:] for prompt in encoded]] * len(edits)}
        decoder = EditedDecoder(models, "distilled", running, vocabulary, own)
        jobs = [Job(encoded, range(len(PROMPTS)), one) for one in running]
        done = write(decoder, tokenizer, jobs, writing(tokenizer, 6, 1.0, 0, ()))
        return [[r.completion_ids for r in rollouts] for rollouts in done], [fired(one) for one in running]

    found, counts = texts(device)
    assert (found, counts) == texts("cpu")
    acted = [name for name, n in zip(names, counts, strict=False) if sum(n)]
    assert set(names) - set(acted) <= {"affirm", "echo", "redraw"}, "openings and steps are rare in so few tokens"


def test_the_pretended_gpu_refuses_what_a_real_one_refuses():
    """The fixture itself: a check that sees nothing would pass everything above."""
    with pretended_gpu() as gpu:
        there, here = torch.ones(3, 4, device=gpu), torch.ones(3, 4)
        for mixed in (
            lambda: there + here,
            lambda: here @ there.T,
            lambda: there.numpy(),
            lambda: here[torch.tensor([0], device=gpu)],
            lambda: torch.cat([here, there]),
            lambda: here.mul_(there),
            lambda: torch.where(there > 0, here, there),
        ):
            with pytest.raises(MixedDevicesError):
                mixed()


def test_the_pretended_gpu_allows_what_a_real_one_allows():
    with pretended_gpu() as gpu:
        there, here = torch.ones(3, 4, device=gpu), torch.arange(12.0).view(3, 4)
        assert (there + torch.tensor(2.0)).device == gpu
        assert there[torch.tensor([0, 1])].shape == (2, 4)
        assert torch.equal((there + here.to(gpu)).cpu(), here + 1)
        assert torch.equal(here.clone().copy_(there), torch.ones(3, 4))
        weight = torch.ones(4, 2).to(gpu).requires_grad_()
        (there @ weight).sum().backward()
        assert weight.grad.device == gpu
    assert torch.zeros(1).device.type == "cpu"
