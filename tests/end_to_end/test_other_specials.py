"""The whole way on models whose special tokens, chat templates and end tokens disagree."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import specials
import yaml

from interp.activations.texts import read_texts
from tests.end_to_end.conftest import interp

N = 16


def config(folder: Path) -> Path:
    rows = [{"question": f"What is {i} + {i + 3} ?", "answer": 2 * i + 3} for i in range(N)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = {
        "name": "specials",
        "threads": 1,
        "device": "cpu",
        "checkpoints": specials.save_trio(folder),
        "traces": {"file": str(folder / "problems.jsonl"), "chat_template": True, "problems": N, "max_new_tokens": 24},
        "crosscoder": {"shape": {"n_latents": 32, "k": 4}, "train": {"steps": 20, "batch_size": 64}},
        "causal": {"problems": N, "pairs": 8, "doses": [0.1], "resamples": 100},
    }
    (folder / "specials.yaml").write_text(yaml.safe_dump(raw))
    return folder / "specials.yaml"


def test_a_study_of_a_base_and_its_distillation_with_other_special_tokens(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = interp("study", config(tmp_path), "--out", out)
    assert done.returncode == 0, done.stderr
    assert "interp: warning" not in done.stderr, "each model reads its own prompt, in edits of latents as well"
    assert (out / "report" / "index.html").stat().st_size > 10_000
    assert json.loads((out / "report" / "verdict.json").read_text())["verdict"]
    texts = read_texts(out / "activations" / "texts.parquet")
    assert len(texts) == 3 * N
    assert all(len(t.prompts) == 3 and list(t.prompts[0]) == list(t.prompts[2]) != list(t.prompts[1]) for t in texts)
    index = pl.read_parquet(out / "activations" / "index.parquet")
    starts = [texts[i].completion_start for i in index["text"]]
    assert (index["position"] >= pl.Series(starts)).all(), "the prompts differ, so that no row of them is kept"
    assert not set(index["token"]) & set(specials.slots())
    behind = [t for t in texts if set(t.ids[t.completion_start : -1]) & set(specials.slots())]
    assert behind, "some completion goes on after a masked token"
    kept = set(zip(index["text"], index["position"], strict=True))
    for t in behind:
        if t.fresh == 0 or t.fresh < len(t.ids):
            last = len(t.ids) - 1
            assert t.ids[last] in specials.slots() or (texts.index(t), last) in kept
