"""The token stream that the stage makes of written rollouts, and the store, on small random models."""

import json
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
import specials
import torch
from small import residual, small_model

from interp.activations.store import open_store
from interp.activations.texts import read_texts
from interp.config import check_config
from interp.errors import InterpError
from interp.models.trio import open_trio
from interp.names import COMPARED
from interp.organisms.chains import CHAINS
from interp.stages import activations
from interp.study import Study

P, Q = [13, 3, 14], [13, 4, 14]
WRITTEN = {
    ("p", "base"): (P, [5, 6, 7, 8]),
    ("p", "distilled"): (P, [5, 6, 9, 9]),  # shares two tokens with the base's
    ("p", "zero_rl"): (P, [5, 6, 9, 9]),  # the distilled model's to the letter
    ("q", "base"): (Q, [5]),
    ("q", "distilled"): (Q, []),
    ("q", "zero_rl"): (Q, [6, 6]),
}
"""Problem and model to prompt and completion; the two problems share the first token."""


def a_study(root, paths, written, **config):
    """A study whose stages `checkpoints`, `traces` and `sites` are done."""
    for stage in ("checkpoints", "traces", "sites"):
        (root / stage).mkdir()
    (root / "sites" / "site.json").write_text(json.dumps({"read": {"layer": 1, "name": "resid_post"}}))
    described = {name: {"path": path} for name, path in paths.items()}
    (root / "checkpoints" / "models.json").write_text(json.dumps(described))
    rows = [
        {"problem": p, "model": m, "prompt_ids": prompt, "completion_ids": completion}
        for (p, m), (prompt, completion) in written.items()
    ]
    schema = {"prompt_ids": pl.List(pl.Int64), "completion_ids": pl.List(pl.Int64)}
    pl.DataFrame(rows, schema_overrides=schema).write_parquet(root / "traces" / "traces.parquet")
    return Study(check_config({"device": "cpu", "threads": 1} | config, "here"), root)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(COMPARED):
        small_model(seed).save_pretrained(root / name)
        CHAINS.tokenizer().save_pretrained(root / name)
    return {name: str(root / name) for name in COMPARED}


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return specials.save_trio(tmp_path_factory.mktemp("others"))


def done(study):
    out = study.folder("activations")
    out.mkdir()
    n = activations.run(study, out)
    store, texts = open_store(out), read_texts(out / "texts.parquet")
    assert n == len(store) == len(store.index)
    return store, texts, json.loads((out / "stream.json").read_text())


def rows_of(store, texts):
    """(prefix, model of the text, problem) of every row."""
    at = zip(store.index["text"], store.index["position"], strict=True)
    return [(tuple(texts[i].ids[: p + 1]), texts[i].model, texts[i].problem) for i, p in at]


def test_further_blocks_are_stored_in_the_same_pass(tmp_path, paths):
    """Each is the store that a study which reads that block alone has; the block that is read anyway is not doubled."""
    (tmp_path / "all").mkdir()
    together = a_study(tmp_path / "all", paths, WRITTEN, activations={"also": [2, 1, 0, 2], "shard_rows": 4})
    done(together)
    folder = together.folder("activations")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {f"blocks.{i}.hook_resid_post" for i in (0, 2)}
    for layer in (0, 1, 2):
        root = tmp_path / str(layer)
        root.mkdir()
        alone = a_study(root, paths, WRITTEN, activations={"shard_rows": 4})
        (root / "sites" / "site.json").write_text(json.dumps({"read": {"layer": layer, "name": "resid_post"}}))
        expected, _, _ = done(alone)
        found = open_store(folder if layer == 1 else folder / f"blocks.{layer}.hook_resid_post")
        assert (found.place, found.shard_rows) == (expected.place, expected.shard_rows)
        assert found.index.equals(expected.index) and torch.equal(found.tensor(), expected.tensor())


def test_every_prefix_is_stored_once_in_the_edited_models_text_if_it_has_it(tmp_path, paths):
    config = {"activations": {"skip_first": 0, "layer": 1, "batch_size": 2, "shard_rows": 4}}
    store, texts, counts = done(a_study(tmp_path, paths, WRITTEN, **config))
    rows = rows_of(store, texts)
    wanted = defaultdict(set)
    for (_, model), (prompt, completion) in WRITTEN.items():
        for p in range(len(prompt + completion)):
            wanted[tuple([*prompt, *completion][: p + 1])].add(model)
    assert Counter(prefix for prefix, _, _ in rows) == Counter(wanted.keys())
    for (prefix, model, _), mask in zip(rows, store.index["written_by"], strict=True):
        assert {name for m, name in enumerate(COMPARED) if mask >> m & 1} == wanted[prefix]
        assert model == ("distilled" if "distilled" in wanted[prefix] else model)
    assert store.index["token"].to_list() == [prefix[-1] for prefix, _, _ in rows]
    assert (counts["texts"], counts["problems"], counts["rows"], counts["masked"]) == (6, 2, len(wanted), 0)
    assert counts["repeats"] == sum(len(p + c) for p, c in WRITTEN.values()) - len(wanted)
    assert counts["exact_duplicates"] == 0


def test_rows_are_the_models_residuals_and_the_distances_their_means(tmp_path, paths):
    config = {"activations": {"skip_first": 1, "layer": 1, "shard_rows": 4, "batch_size": 2}}
    store, texts, _ = done(a_study(tmp_path, paths, WRITTEN, **config))
    expected, distances = [], []
    for prefix, _, _ in rows_of(store, texts):
        with torch.inference_mode():
            x = torch.stack([residual(small_model(m), 1, input_ids=torch.tensor([prefix]))[0, -1] for m in range(3)])
        expected.append(x)
        distances.append([float((x[m] - x[0]).norm() / x[0].norm()) for m in range(3)])
    assert len(store.shard_rows) > 1
    torch.testing.assert_close(store.tensor(), torch.stack(expected).bfloat16(), atol=0.02, rtol=0.01)
    moved = json.loads((tmp_path / "activations" / "moved.json").read_text())
    assert list(moved) == list(COMPARED)
    assert list(moved.values()) == pytest.approx(np.mean(distances, axis=0).tolist(), rel=1e-4)


def test_rows_that_are_equal_though_their_prefixes_differ_are_counted(tmp_path, paths, monkeypatch):
    """To these models token 6 is token 5."""
    load = activations.load_model

    def twins(*args):
        model = load(*args)
        weight = model.get_input_embeddings().weight.data
        weight[6] = weight[5]
        return model

    monkeypatch.setattr(activations, "load_model", twins)
    written = {("p", m): (P, completion) for m, completion in zip(COMPARED, ([5, 7], [6, 7], [8]), strict=True)}
    written |= {("q", m): (Q, [9]) for m in COMPARED}
    _, _, counts = done(a_study(tmp_path, paths, written, activations={"skip_first": 2}))
    assert (counts["rows"], counts["repeats"]) == (8, 6)
    assert counts["exact_duplicates"] == pytest.approx(2 / 8)


def many(n=40, length=30):
    rng = np.random.default_rng(0)
    return {
        (f"p{i}", m): ([13, 3 + i % 10, 14, 3 + i // 10], rng.integers(3, 30, length).tolist())
        for m in COMPARED
        for i in range(n)
    }


def test_training_and_held_out_rows_share_no_problem(tmp_path, paths):
    store, texts, counts = done(a_study(tmp_path, paths, many(), seed=1))
    problem = [problem for _, _, problem in rows_of(store, texts)]
    held_out = set(store.held_out_places().tolist())
    apart = {p for i, p in enumerate(problem) if i in held_out}, {p for i, p in enumerate(problem) if i not in held_out}
    assert not apart[0] & apart[1]
    assert (counts["held_out_problems"], counts["held_out_rows"]) == (len(apart[0]), len(held_out))
    assert len(apart[0]) == 8, "a fifth, since 5 % have too few rows"
    assert counts["problems"] == 40 == len(apart[0] | apart[1])
    prefixes = [prefix for prefix, _, _ in rows_of(store, texts)]
    assert len(set(prefixes)) == len(prefixes), "so that no held-out row has a copy that is trained on"


def test_texts_are_read_in_the_order_of_a_seed(tmp_path, paths):
    orders = []
    for seed in (0, 0, 1):
        root = tmp_path / str(len(orders))
        root.mkdir()
        stream = activations.token_stream(a_study(root, paths, many(), seed=seed), open_trio(paths))
        orders.append([(t.model, t.problem) for t in stream.texts])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    runs = 1 + sum(a[0] != b[0] for a, b in zip(orders[0], orders[0][1:], strict=False))
    assert runs > 60, "of 120 texts of three models a random order has 80 runs, one by models three"


def no_models(*_):
    raise AssertionError("a model is loaded before the refusal")


@pytest.mark.parametrize(
    ("written", "config", "line"),
    [
        (
            WRITTEN,
            {"activations": {"skip_first": 7}},
            r"activations\.skip_first = 7: .*longest of 6 texts has 7 tokens",
        ),
        ({k: v for k, v in WRITTEN.items() if k[0] == "p"}, {}, r"rows of 1 problem .*at least 2.*traces\.problems"),
    ],
)
def test_a_stream_without_rows_or_of_one_problem_is_refused_at_once(
    tmp_path, paths, monkeypatch, written, config, line
):
    monkeypatch.setattr(activations, "load_model", no_models)
    with pytest.raises(InterpError, match=line) as caught:
        done(a_study(tmp_path, paths, written, **config))
    assert "\n" not in str(caught.value)


def test_a_stream_of_masked_tokens_is_refused_and_the_token_named(tmp_path, others, monkeypatch):
    monkeypatch.setattr(activations, "load_model", no_models)
    think, end = specials.slots()[4:]
    written = {(p, m): ([3, 4], [think, think, end]) for p in "pq" for m in COMPARED}
    with pytest.raises(InterpError, match=rf"id {think} \('<\|box_start\|>' / '<think>', 2 times\)") as caught:
        done(a_study(tmp_path, others, written))
    assert "\n" not in str(caught.value)


def test_where_templates_differ_completions_are_aligned_and_masked_positions_left_out(tmp_path, others):
    think = specials.slots()[4]
    theirs, own = [7, 8, 9], [7, think]
    written = {
        (p, m): (own if m == "distilled" else theirs, [20 + i, think, 30, 31] if m == "zero_rl" else [40 + i])
        for i, p in enumerate("pq")
        for m in COMPARED
    }
    store, texts, counts = done(a_study(tmp_path, others, written, activations={"skip_first": 0}))
    assert all([list(prompt) for prompt in t.prompts] == [theirs, own, theirs] for t in texts)
    assert sorted(prefix for prefix, _, _ in rows_of(store, texts)) == sorted(
        (*own, *completion)
        for i in range(2)
        for completion in ([40 + i], [20 + i], [20 + i, think, 30], [20 + i, think, 30, 31])
    )
    assert (counts["masked"], counts["repeats"]) == (2, 2)
    assert set(store.index["written_by"]) == {0b011, 0b100}
