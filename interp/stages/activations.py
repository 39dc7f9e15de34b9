"""Stage `activations`: the residuals of base, distilled and zero-RL on the rollouts of all models."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import torch

from interp.activations.harvest import Harvest, Text, moved
from interp.activations.store import BYTES, StoreWriter
from interp.config import StudyConfig
from interp.folders import refuse_if_short
from interp.models.sites import check_layer
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.names import COMPARED
from interp.progress import bar
from interp.stages.problems import task_of
from interp.stages.traces import checkpoint_paths, templated
from interp.study import Study
from interp.traces.tokens import encode, pad_id


def run(study: Study, out: Path) -> int:
    """Write the store, `texts.parquet`, and how far each model's residuals lie from the base's; returns the number of
    rows."""
    config = study.config
    torch.set_num_threads(config.threads)
    trio, device = open_trio(checkpoint_paths(study)), pick_device(config.device)
    layer = check_layer(config.activations.layer, trio.n_layers)
    texts = token_stream(study, trio)
    tokens = sum(len(t.ids) for t in texts)
    refuse_if_short(out, tokens * len(COMPARED) * trio.d_model * BYTES, "the store of residuals")
    models = {name: load_model(name, trio.paths[name], device) for name in COMPARED}
    writer = StoreWriter(out, list(COMPARED), f"blocks.{layer}.hook_resid_post", config.activations.shard_rows)
    index, moves = [], []
    source = Harvest(
        models,
        texts,
        layer,
        pad_id(trio.tokenizer),
        config.activations.batch_size,
        config.activations.skip_first,
        trio.masked_ids,
    )
    with bar("reading residuals", len(texts)) as progress:
        for batch in source.batches():
            writer.add(batch.resid)
            moves.append(moved(batch.resid))
            columns = {"text": batch.text, "position": batch.position, "token": batch.token}
            index.append(pl.DataFrame({key: value.numpy() for key, value in columns.items()}))
            progress.to(int(batch.text.max()) + 1 if len(batch.text) else 0)
    writer.close(pl.concat(index))
    pl.DataFrame([vars(t) for t in texts]).write_parquet(out / "texts.parquet")
    mean = torch.cat(moves).mean(0).tolist()
    (out / "moved.json").write_text(json.dumps(dict(zip(COMPARED, mean, strict=True))))
    return writer.rows


def token_stream(study: Study, trio: Trio) -> list[Text]:
    """Every model's rollouts, prompt and completion, and the worked traces that came with the user's problems."""
    table = pl.read_parquet(study.folder("traces") / "traces.parquet").filter(pl.col("model").is_in(COMPARED))
    texts = [
        Text(row["prompt_ids"] + row["completion_ids"], row["model"], row["problem"], len(row["prompt_ids"]))
        for row in table.iter_rows(named=True)
    ]
    return texts + given_traces(study.config, trio)


def given_traces(config: StudyConfig, trio: Trio) -> list[Text]:
    """The `trace` column of the user's file; empty where there is none."""
    if config.traces.file is None:
        return []
    texts = []
    for problem in task_of(config).problems(config.traces.problems, config.seed, "test"):
        if problem.trace is not None:
            prompt = encode(trio.tokenizer, templated(trio.tokenizer, problem.prompt, config.traces.chat_template))
            trace = encode(trio.tokenizer, problem.trace)
            texts.append(Text(prompt + trace, "given", problem.id, len(prompt)))
    return texts
