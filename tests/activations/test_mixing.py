"""Whatever a crosscoder is trained from, its batches mix the models' texts as a random draw would."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import torch

from interp.activations.harvest import Harvest
from interp.activations.store import StoreWriter, open_store
from interp.activations.texts import Text, mixed
from interp.crosscoder import CrosscoderConfig, TrainConfig
from interp.crosscoder.feeds import open_feed
from interp.models.hooks import Site

NAMES = ("base", "distilled", "zero_rl")
LENGTHS = {"base": 12, "distilled": 30, "zero_rl": 18}
"""Tokens of each model's texts: a fifth, a half and three tenths of all."""
N_TEXTS, BATCH, SHARD = 900, 64, 1500
SHAPE = CrosscoderConfig(n_models=3, d_model=2, n_latents=4, k=1)


@dataclass(frozen=True)
class Marked(Harvest):
    """Rows that hold the number of the model that wrote their text, in the place of residuals."""

    def at(self, readings, sites):
        text = readings.numbers[readings.written.kept.nonzero()[:, 0]]
        writer = torch.tensor([1.0 + NAMES.index(self.texts[i].model) for i in text.tolist()])
        rows = writer[:, None, None].repeat(1, 3, 2)
        rows[:, :, 1] = torch.arange(len(rows))[:, None].sin()  # a model whose rows are all the same is refused
        return dict.fromkeys(sites, rows)


def harvest(order):
    """Texts model by model, as they are written, read in an order."""
    written = [Text([5] * LENGTHS[name], name, str(i), 1) for name in NAMES for i in range(N_TEXTS // 3)]
    return Marked({}, [written[i] for i in order], Site(0), 0, 16)


def stored(folder, source):
    writer, numbers = StoreWriter(folder, list(NAMES), "blocks.0.hook_resid_post", SHARD), []
    for batch in source.batches():
        writer.add(batch.resid)
        numbers += batch.text.tolist()
    held_out = [source.texts[i].problem in {"7", "70", "150"} for i in numbers]
    writer.close(pl.DataFrame({"text": numbers, "held_out": held_out}))
    return open_store(folder)


def unevenness(given, shuffle_rows, steps=250):
    """Mean over batches of chi-square per degree of freedom of the models' rows in a batch: 1 as of independent draws,
    a little more where texts stay together, `BATCH` times a constant where models do."""
    recipe = TrainConfig(steps=steps, batch_size=BATCH, shuffle_rows=shuffle_rows)
    batches = [batch[:, 0, 0] for batch in open_feed(given, SHAPE, recipe).batches(0)]
    assert len(batches) == steps
    counts = np.array([[int((batch == 1 + m).sum()) for m in range(3)] for batch in batches])
    expected = BATCH * counts.sum(0) / counts.sum()
    return float(((counts - expected) ** 2 / expected).sum(1).mean() / 2)


@pytest.mark.parametrize("streamed", [False, True], ids=["store of many shards", "stream"])
def test_batches_are_composed_as_random_draws(tmp_path, streamed):
    source = harvest(mixed(N_TEXTS, 0))
    given = source if streamed else stored(tmp_path, source)
    assert streamed or len(given.shard_rows) == 12
    # The mix of a group of 3,000 rows varies too, as texts of 22.8 rows (by rows) stay together: 64 * 22.8 / 3000 more.
    assert 0.8 < unevenness(given, shuffle_rows=3000) < 1.9


@pytest.mark.parametrize("streamed", [False, True], ids=["store of many shards", "stream"])
def test_the_measure_notices_texts_that_are_read_model_by_model(tmp_path, streamed):
    source = harvest(range(N_TEXTS))
    given = source if streamed else stored(tmp_path, source)
    assert unevenness(given, shuffle_rows=3000) > 8
