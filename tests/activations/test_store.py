import hashlib
import json
from collections import Counter

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.activations.store import StoreWriter, open_store, row_hashes
from interp.crosscoder import CrosscoderConfig, TrainConfig, train_many
from interp.crosscoder.feeds import open_feed
from interp.crosscoder.rows import TensorRows
from interp.errors import InterpError
from interp.memory import Memory
from interp.models.hooks import Site

NAMES = ["base", "distilled"]


def rows(n, seed=0):
    return 10 * torch.randn(n, 2, 6, generator=torch.Generator().manual_seed(seed))


def write(folder, parts, shard_rows):
    folder.mkdir(exist_ok=True)
    writer = StoreWriter(folder, NAMES, "blocks.7.hook_resid_post", shard_rows)
    for part in parts:
        writer.add(part)
    n = sum(len(p) for p in parts)
    held_out = [i % 5 == 3 for i in range(n)]
    writer.close(pl.DataFrame({"text": [0] * n, "position": list(range(n)), "token": [5] * n, "held_out": held_out}))
    assert writer.rows == n
    return open_store(folder)


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum), shard_rows=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_in_bf16_exactly_however_it_is_cut(tmp_path_factory, sizes, shard_rows):
    parts = [rows(n, i) for i, n in enumerate(sizes)]
    store = write(tmp_path_factory.mktemp("store"), parts, shard_rows)
    assert store.tensor().dtype == torch.bfloat16
    assert torch.equal(store.tensor(), torch.cat(parts).bfloat16())
    assert len(store) == sum(sizes) == len(store.index)
    assert len(store.shard_rows) == -(-sum(sizes) // shard_rows)
    assert (store.names, store.place) == (NAMES, Site(7))


def test_what_is_added_may_be_changed_afterwards(tmp_path):
    part = rows(5)
    expected = part.bfloat16().clone()
    writer = StoreWriter(tmp_path, NAMES, "blocks.0.hook_resid_post", 100)
    writer.add(part)
    part.zero_()
    writer.close(pl.DataFrame({"text": [0] * 5}))
    assert torch.equal(open_store(tmp_path).tensor(), expected)


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    store = write(tmp_path / "activations", [rows(30)], 10)
    path = store.folder / "shard_00001.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(whole[:-20] if damage == "cut" else b"no tensor")
    with pytest.raises(InterpError, match="damaged") as caught:
        store.tensor()
    assert str(path) in str(caught.value)


def test_a_store_larger_than_half_of_the_memory_is_refused(tmp_path, monkeypatch):
    store = write(tmp_path / "activations", [rows(30)], 10)
    enough = 2 * 30 * 2 * 6 * 2
    monkeypatch.setattr("interp.activations.store.main_memory", lambda: Memory(enough, 0))
    store.tensor()
    monkeypatch.setattr("interp.activations.store.main_memory", lambda: Memory(enough - 2, 0))
    with pytest.raises(InterpError, match="half of the memory"):
        store.tensor()


def test_a_store_without_rows_is_refused_in_words(tmp_path):
    """`activations.skip_first` beyond every text keeps nothing."""
    store = write(tmp_path / "activations", [torch.zeros(0, 2, 6)], 10)
    with pytest.raises(InterpError):
        store.tensor()


def test_the_description_is_plain_json(tmp_path):
    write(tmp_path / "activations", [rows(3)], 10)
    described = json.loads((tmp_path / "activations" / "store.json").read_text())
    digest = hashlib.sha256((tmp_path / "activations" / "shard_00000.safetensors").read_bytes()).hexdigest()
    assert described == {
        "models": NAMES,
        "site": "blocks.7.hook_resid_post",
        "d_model": 6,
        "shard_rows": [3],
        "sha256": [digest],
    }


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum), shard_rows=st.integers(1, 12), data=st.data()
)
@settings(max_examples=25, deadline=None)
def test_rows_are_read_at_any_places(tmp_path_factory, sizes, shard_rows, data):
    parts = [rows(n, i) for i, n in enumerate(sizes)]
    store, n = write(tmp_path_factory.mktemp("store"), parts, shard_rows), sum(sizes)
    places = torch.tensor(sorted(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20))))
    assert torch.equal(store.read(places), torch.cat(parts).bfloat16()[places])
    assert (len(store), store.row_shape, store.shard_ends[-1]) == (n, (2, 6), n)


@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
def test_the_fingerprint_finds_a_shard_that_is_not_what_was_written(tmp_path, damage):
    store = write(tmp_path / "activations", [rows(30)], 10)
    whole = store.fingerprint()
    assert whole == open_store(store.folder).fingerprint()
    assert whole != write(tmp_path / "other", [rows(30, seed=1)], 10).fingerprint()
    path = store.folder / "shard_00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.unlink()
    if damage != "gone":
        path.write_bytes(bytes(content) if damage == "altered" else content[:-20])
    with pytest.raises(InterpError, match=r"shard_00001\.safetensors: damaged"):
        open_store(store.folder).fingerprint()


@pytest.mark.parametrize("shuffle_rows", [1, 150, 10_000])
def test_every_row_of_the_store_is_trained_on_once_an_epoch_or_held_out(tmp_path, shuffle_rows):
    """The best-known public buffer repeats its first part for ever."""
    told_apart = torch.zeros(600, 2, 6)  # in numbers that bf16 holds
    told_apart[:, :, 0], told_apart[:, :, 1] = (torch.arange(600) % 100)[:, None], (torch.arange(600) // 100)[:, None]
    store = write(tmp_path / "activations", [told_apart], 70)
    recipe = TrainConfig(steps=480 * 3 // 32, batch_size=32, shuffle_rows=shuffle_rows, outlier_ratio=1e9)
    feed = open_feed(store, CrosscoderConfig(n_models=2, d_model=6, n_latents=4, k=1), recipe)
    all_rows = {tuple(row.flatten().tolist()) for row in store.tensor().float()}
    held_out = [tuple(row.flatten().tolist()) for chunk in feed.held_out(50) for row in chunk]
    seen = Counter(tuple(row.flatten().tolist()) for batch in feed.batches(0) for row in batch.float())
    assert len(all_rows) == 600 and len(set(held_out)) == 120
    assert set(seen) == all_rows - set(held_out)
    assert set(seen.values()) == {3}


def test_a_crosscoder_trains_from_a_store_as_from_the_same_rows(tmp_path):
    """Six shards, shuffled within groups of two: the bits differ from one tensor's only by the order."""
    store = write(tmp_path / "activations", [rows(600)], 100)
    shape = CrosscoderConfig(n_models=2, d_model=6, n_latents=20, k=3)
    recipe = TrainConfig(steps=40, batch_size=32, lr=3e-3)
    same = TensorRows(store.tensor(), torch.from_numpy(store.index["held_out"].to_numpy().copy()))
    from_store, from_rows = (train_many(given, [(shape, recipe)])[0] for given in (store, same))
    assert from_store.held_out.fve == pytest.approx(from_rows.held_out.fve, abs=0.05)
    assert torch.equal(from_store.crosscoder.mean, from_rows.crosscoder.mean)
    grouped = train_many(store, [(shape, recipe.model_copy(update={"shuffle_rows": 200}))])[0]
    assert grouped.held_out.n_rows == from_rows.held_out.n_rows == 120


def test_held_out_places_are_those_of_the_index(tmp_path):
    store = write(tmp_path / "activations", [rows(23)], 10)
    assert store.held_out_places().tolist() == [3, 8, 13, 18]


def test_a_store_that_is_not_split_by_problem_is_refused(tmp_path):
    store = write(tmp_path / "activations", [rows(23)], 10)
    store.index.drop("held_out").write_parquet(store.folder / "index.parquet")
    with pytest.raises(InterpError, match=r"not split by problem.*--force"):
        open_store(store.folder).held_out_places()


def test_a_folder_whose_name_is_a_pattern_is_read_itself(tmp_path):
    for n, name in ((5, "sweep1"), (9, "sweep[1]")):
        write(tmp_path / name, [rows(n)], 10)
    assert len(open_store(tmp_path / "sweep[1]").index) == 9


def test_rows_have_the_same_hash_where_they_are_stored_alike():
    x = rows(1000)
    hashes = row_hashes(x)
    assert len(hashes.unique()) == 1000
    assert torch.equal(row_hashes(x.bfloat16()), hashes), "what bf16 rounds away counts for nothing"
    assert torch.equal(row_hashes(x.flip(0)), hashes.flip(0))
    near = x.bfloat16()
    near.view(torch.int16)[:, 1, 3] ^= 1  # the last bit of one number
    assert not (row_hashes(near) == hashes).any()
    swapped = x[:, [1, 0]]
    assert not (row_hashes(swapped) == hashes).any()
