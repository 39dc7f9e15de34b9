"""Stage `crosscoder`: one dictionary between the models of the store."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch

from interp.activations.harvest import Harvest, Text
from interp.activations.store import Store, open_store
from interp.crosscoder import Crosscoder, train_many
from interp.crosscoder.budget import described
from interp.crosscoder.metrics import firing_histogram
from interp.errors import InterpError
from interp.features.splice import splice
from interp.models.trio import load_model, open_trio, pick_device
from interp.progress import bar
from interp.stages.traces import checkpoint_paths
from interp.study import Study
from interp.traces.tokens import pad_id


def run(study: Study, out: Path) -> int:
    """Write the weights (format 1), `metrics.jsonl` and `evaluation.json`; returns the number of rows read.

    The state of training is kept under `training/` while it runs: what was interrupted goes on from there.
    """
    config = study.config.crosscoder
    torch.set_num_threads(study.config.threads)
    store = open_store(study.folder("activations"))
    n_models, d_model = store.row_shape
    shape, recipe = config.shape.between(n_models, d_model), config.recipe(study.config.seed, len(store))
    tracker = _tracker(config.wandb, study)
    started: list[tuple[float, int]] = []

    def show(step: int, metrics: Sequence[Mapping[str, float]]) -> None:
        row = metrics[0]
        fve = sum(row[f"fve_{m}"] for m in range(n_models)) / n_models
        started.append((time.perf_counter(), step))
        (first, at), (now, _) = started[0], started[-1]
        speed = f"  {(step - at) * recipe.batch_size / (now - first):,.0f} rows/s" if step > at else ""
        progress.to(step, f"fve {fve:.3f}  l0 {row['l0']:.1f}  dead {row['dead_share']:.2f}{speed}")
        if tracker is not None:
            tracker.log(_named(row, store), step=step)

    device = pick_device(study.config.device)
    print(f"  memory: {described([(shape, recipe)], device)}")
    with bar("training the crosscoder", recipe.steps) as progress:
        done = train_many(store, [(shape, recipe)], on_step=show, checkpoint=out / "training", device=device)[0]
    if tracker is not None:
        tracker.finish()
    shutil.rmtree(out / "training", ignore_errors=True)
    done.crosscoder.save(out)
    (out / "metrics.jsonl").write_text("".join(json.dumps(_named(row, store)) + "\n" for row in done.log))
    measured: dict[str, Any] = {
        "fve": dict(zip(store.names, done.held_out.fve, strict=True)),
        "l0": done.held_out.l0,
        "k": shape.k,
        "dead": done.held_out.dead_share,
        "n_latents": shape.n_latents,
        "rows": len(store),
        "rows_held_out": done.held_out.n_rows,
        "rows_not_finite": done.n_bad,
        "rows_outlying": done.n_outlying,
        "firing": firing_histogram(done.held_out.firing),
    }
    measured["spliced"] = _spliced(study, store, done.crosscoder)
    (out / "evaluation.json").write_text(json.dumps(measured, indent=1))
    return len(store)


def _spliced(study: Study, store: Store, crosscoder: Crosscoder) -> dict[str, Any]:
    """What each model loses when its residual is replaced, on texts from all over the stream."""
    trio = open_trio(checkpoint_paths(study))
    models = {name: load_model(name, trio.paths[name], crosscoder.mean.device) for name in store.names}
    table = pl.read_parquet(study.folder("activations") / "texts.parquet")
    chosen = table.gather_every(max(1, len(table) // study.config.crosscoder.spliced_texts))
    source = Harvest(
        models,
        [Text(**row) for row in chosen.iter_rows(named=True)],
        store.layer,
        pad_id(trio.tokenizer),
        study.config.activations.batch_size,
        study.config.activations.skip_first,
        trio.masked_ids,
    )
    found = splice(crosscoder, source)
    return {name: asdict(model) for name, model in found.items()}


def _tracker(project: str | None, study: Study) -> Any:
    """A wandb run, where one is asked for.

    Raises:
        InterpError: wandb is asked for and not installed.
    """
    if project is None:
        return None
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError as error:
        raise InterpError(f"crosscoder.wandb = {project}: wandb is not installed; pip install wandb") from error
    return wandb.init(project=project, name=study.config.name, config=study.config.model_dump(mode="json"))


def _named(row: Mapping[str, float], store: Store) -> dict[str, float]:
    """The metrics with the models' names in the place of their numbers."""
    names = {f"fve_{m}": f"fve_{name}" for m, name in enumerate(store.names)} | {"dead_share": "dead"}
    return {names.get(key, key): value for key, value in row.items()}
