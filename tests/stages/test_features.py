"""Token injection in a world without context: every model's residual is its embedding, so a token is what it is."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csc_array
from small import D_MODEL, small_crosscoder, small_model

from interp.activations.texts import Text
from interp.features.falsify import AS_HARD
from interp.models.hooks import Site
from interp.names import REFLECTION, VERIFICATION
from interp.stages.reverse_control import Reader, Said, _without_behaviour, kinds
from interp.traces.labels import ELSEWHERE, INSIDE, MARKER, NONE
from tests.features.samples import labelled

SITE, TOKEN, OTHER = Site(1), 30, 31
"""The planted latents fire on TOKEN and on OTHER; no text holds either."""


@pytest.fixture(scope="module")
def models():
    """Three models whose blocks add nothing."""
    found = {name: small_model(seed) for seed, name in enumerate(("base", "distilled", "zero_rl"))}
    for model in found.values():
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
    return found


@pytest.fixture(scope="module")
def cc(models):
    """Latent 0 fires with strength 2 on TOKEN, latent 1 with strength 3 on OTHER, no other latent at all."""
    cc = small_crosscoder()
    for tensor in (cc.W_enc, cc.b_enc, cc.b_dec, cc.mean):
        tensor.zero_()
    cc.scale.fill_(1.0), cc.threshold.fill_(0.0)
    embedding = models["distilled"].model.embed_tokens.weight
    for latent, (token, strength) in enumerate(((TOKEN, 2.0), (OTHER, 3.0))):
        # The pseudo-inverse reads one token's embedding and no other's, as far as D_MODEL of them can be told apart.
        some = [token, *(t for t in range(3, 3 + D_MODEL - 2)), TOKEN + OTHER - token]
        wanted = torch.tensor([strength, *([0.0] * (len(some) - 1))])
        cc.W_enc[1, :, latent] = torch.linalg.pinv(embedding[some]) @ wanted
    return cc


def text(n=12, start=4, model="distilled", problem="p"):
    return Text([3 + i % 12 for i in range(n)], model, problem, start)


def put(text, token, place):
    return Text([*text.ids[:place], token, *text.ids[place:]], text.model, text.problem, text.completion_start)


def test_the_planted_latents_fire_on_their_tokens_alone(models, cc):
    ids = torch.tensor([[3, TOKEN, 4, OTHER, 5]])
    x = torch.stack([m.model.embed_tokens(ids)[0] for m in models.values()], dim=1)
    f = cc.encode(x)
    assert f[:, 0].tolist() == pytest.approx([0, 2, 0, 0, 0], abs=1e-3)
    assert f[:, 1].tolist() == pytest.approx([0, 0, 0, 3, 0], abs=1e-3)


def test_codes_are_read_at_the_given_positions_and_nowhere_else(models, cc):
    """Texts of different lengths, the token at different places, several positions of a text; what an earlier text
    holds is read too."""
    places = [5, 9, 7]
    texts = [put(text(n), TOKEN, place) for n, place in zip((10, 20, 15), places, strict=True)]
    texts[1] = replace(texts[1], fresh=15)
    read = Reader(models, cc, SITE, [0, 1])
    for shift, value in ((-1, 0.0), (0, 2.0), (1, 0.0)):
        assert read(texts, [[place + shift] for place in places])[:, 0].tolist() == pytest.approx([value] * 3, abs=1e-3)
    assert np.abs(read(texts, [[place] for place in places])[:, 1]).max() < 1e-3
    mixed = [*texts[:2], put(text(15), OTHER, 7)]
    got = read(mixed, [[4, 5], [9], [8, 7, 6]])
    np.testing.assert_allclose(got, [[0, 0], [2, 0], [2, 0], [0, 0], [0, 3], [0, 0]], atol=1e-3)
    assert Reader(models, cc, SITE, [1])(mixed, [[5], [9], [7]]).ravel().tolist() == pytest.approx([0, 0, 3], abs=1e-3)


LENGTHS = [12, 12, 12, 12, 12, 12, 12, 12, 12, 5]
"""Text t is of model t modulo 3: the distilled model's are 1, 4 and 7."""


def world(folder):
    """Text 1 verifies at positions 5 to 8, where TOKEN stands at 5 and 6 and OTHER at 7; text 4 holds a marker; text 7
    is quiet."""
    n = sum(LENGTHS)
    text_of = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    position = np.concatenate([np.arange(length) for length in LENGTHS])
    outside = np.where(np.isin(text_of, [1, 4, 7]), ELSEWHERE, NONE).astype("<U9")
    label = {b: outside.copy() for b in (REFLECTION, VERIFICATION)}
    label[VERIFICATION][(text_of == 1) & (position >= 5) & (position < 9)] = INSIDE
    for places in label.values():
        places[(text_of == 4) & (position == 3)] = MARKER
    data = labelled(folder, torch.zeros(n, 3, D_MODEL), LENGTHS, label=label)
    token = data.store.index["token"].to_numpy().copy()
    at = np.flatnonzero(text_of == 1)
    token[at[[5, 6]]], token[at[7]] = TOKEN, OTHER
    index = data.store.index.with_columns(pl.Series("token", token))
    object.__setattr__(data.store, "index", index)
    return data, at


def test_quiet_texts_are_the_subjects_own_without_behaviour_or_marker(tmp_path):
    data, _ = world(tmp_path / "store")
    (quiet,) = _without_behaviour(data, 10)
    assert (quiet.model, quiet.problem) == ("distilled", "p7")
    assert _without_behaviour(data, 0) == []


def test_a_latent_is_lexical_where_its_tokens_alone_make_it_fire(tmp_path, models, cc):
    """Latent 0 is active at 4, 4, 0, 0 of the four rows inside: 2 on average, and its token is TOKEN, on which alone
    it fires with 2. Latent 1 is active at the row of OTHER with 40, which is 10 on average, and 3 on the token alone.
    Latent 2 is not confirmed, latent 3 never fires. Rows inside reflection, for which
    none is confirmed, do not count."""
    data, at = world(tmp_path / "store")
    data.label[REFLECTION][at[[3, 4]]] = INSIDE
    dense = np.zeros((len(data.row_model), 4))
    dense[at[[5, 6]], 0] = 4.0
    dense[at[7], 1] = 40.0
    dense[at[[1, 2]], 0] = 100.0  # outside the behaviour, which does not count
    dense[:, 2] = 1.0
    latents = pl.DataFrame(
        {
            "latent": range(4),
            "firing_rate": [0.1, 0.1, 1.0, 0.0],
            "confirmed_reflection": [False] * 4,
            "confirmed_verification": [True, True, False, False],
        }
    )
    said = Said([[4, OTHER]], [])
    got = {s.name: s.to_list() for s in kinds(models, cc, csc_array(dense), data, latents, said, 5, seed=0)}
    assert list(got) == ["kind", "inside", "at_own", "at_markers", "at_others", "at_places", "paraphrased"]
    assert got["kind"] == ["token latent", "behaviour latent", "unconfirmed", ""]
    assert got["inside"][:2] == pytest.approx([2.0, 10.0])
    assert got["at_own"][:2] == pytest.approx([2.0, 3.0], abs=1e-3)
    assert got["at_markers"][:2] == pytest.approx([0.0, 3.0], abs=1e-3), "the marker ends with OTHER"
    assert [*got["at_others"][:2], *got["at_places"][:2]] == pytest.approx([0.0] * 4, abs=1e-3)
    assert all(np.isnan(values[2:]).all() for name, values in got.items() if name != "kind")
    kind, *_ = kinds(models, cc, csc_array(dense / 4), data, latents, said, 5, seed=0)
    assert kind.to_list() == ["token latent", "marker latent", "unconfirmed", ""], "3 on a marker, 2.5 inside"
    assert 3.0 / 10.0 < AS_HARD <= 2.0 / 2.0


def test_where_no_text_is_quiet_nothing_is_injected(tmp_path, models, cc):
    data, _ = world(tmp_path / "store")
    for places in data.label.values():
        places[places == ELSEWHERE] = INSIDE
    latents = pl.DataFrame(
        {"latent": [0], "firing_rate": [0.1], "confirmed_reflection": [True], "confirmed_verification": [True]}
    )
    kind, *others = kinds(models, cc, csc_array(np.ones((len(data.row_model), 1))), data, latents, Said([], []), 5, 0)
    assert kind.to_list() == ["unconfirmed"]
    assert all(np.isnan(other.to_list()).all() for other in others)
