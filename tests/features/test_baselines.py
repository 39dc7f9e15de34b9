"""What a latent is compared with: words that are counted by hand, and behaviours that words or directions tell."""

import numpy as np
import torch

from interp.features.baselines import SCHEMA, WINDOW, bag, baselines
from interp.names import VERIFICATION
from interp.traces.labels import ELSEWHERE, INSIDE, NONE
from tests.features.samples import labelled

LENGTHS = [24] * 60


def rows(folder, inside=None, x=None):
    n = sum(LENGTHS)
    label = {b: np.full(n, NONE, dtype="<U9") for b in ("reflection", VERIFICATION)}
    if inside is not None:
        label[VERIFICATION] = np.where(inside, INSIDE, ELSEWHERE).astype("<U9")
    return labelled(folder, torch.zeros(n, 3, 16) if x is None else x, LENGTHS, label=label)


def test_tokens_are_counted_in_the_window_up_to_the_row(tmp_path):
    data = rows(tmp_path / "store")
    words = np.array([5, 11])
    counts = bag(data, words)
    index = data.store.index
    for row in range(0, len(counts), 37):
        text, position = index["text"][row], index["position"][row]
        ids = data.texts["ids"][text].to_list()
        begin = data.texts["completion_start"][text]
        here = ids[max(begin, position + 1 - WINDOW) : position + 1]
        assert counts[row].tolist() == [here.count(5), here.count(11)]
    assert counts.max() >= 1 and bag(data, np.array([], dtype=int)).shape == (len(counts), 0)


def test_what_words_tell_and_what_only_the_residual_tells(tmp_path):
    """Inside is where token 5 is among the last 16 tokens; or where a direction of the edited model says so."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(sum(LENGTHS), 3, 16, generator=generator)
    plain = rows(tmp_path / "plain")
    by_words = bag(plain, np.array([5]))[:, 0] > 0
    told = baselines(rows(tmp_path / "words", by_words, noise), [[5], [7, 5]], 0)
    assert told.schema == SCHEMA and set(told["behaviour"]) == {VERIFICATION}
    auroc = dict(zip(told["what"], told["auroc"], strict=True))
    assert auroc["bag of markers"] > 0.99 and abs(auroc["linear probe"] - 0.5) < 0.1
    coin = torch.rand(sum(LENGTHS), generator=generator).numpy() < 0.3
    noise[:, 1, 3] += torch.from_numpy(np.where(coin, 6.0, 0.0)).float()
    told = baselines(rows(tmp_path / "direction", coin, noise), [[5]], 0)
    auroc = dict(zip(told["what"], told["auroc"], strict=True))
    assert auroc["linear probe"] > 0.99 and abs(auroc["bag of markers"] - 0.5) < 0.1
    assert (told["fitted"] + told["held_out"]).to_list() == [sum(LENGTHS)] * 2
    other = noise.flip(1).clone()
    other[:, 1] = torch.randn(sum(LENGTHS), 16, generator=generator)
    told = baselines(rows(tmp_path / "other", coin, other), [[5]], 0)
    assert abs(told.filter(what="linear probe")["auroc"][0] - 0.5) < 0.1, "other models' residuals do not count"


def test_behaviours_with_few_rows_are_absent(tmp_path):
    few = np.zeros(sum(LENGTHS), dtype=bool)
    few[:5] = True
    assert len(baselines(rows(tmp_path / "store", few), [[5]], 0)) == 0
