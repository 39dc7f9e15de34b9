"""Stage `crosscoder`: one dictionary between the models of the store."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from interp.activations.store import open_store
from interp.progress import bar
from interp.study import Study


def run(study: Study, out: Path) -> int:
    """Write the weights (format 1), `metrics.jsonl` and `evaluation.json`; returns the number of rows read."""
    from interp.crosscoder import CrosscoderConfig, TrainConfig, evaluate, train

    config = study.config.crosscoder
    torch.set_num_threads(study.config.threads)
    store = open_store(study.folder("activations"))
    rows = store.tensor()
    shape = CrosscoderConfig(n_models=rows.shape[1], d_model=rows.shape[2], n_latents=config.n_latents, k=config.k)
    recipe = TrainConfig(
        steps=config.steps, batch_size=min(config.batch_size, len(rows)), lr=config.lr, seed=study.config.seed
    )
    log: list[dict[str, float]] = []

    def named(row: dict[str, float]) -> dict[str, float]:
        """The metrics with the models' names in the place of their numbers."""
        fve = {f"fve_{name}": row[f"fve_{m}"] for m, name in enumerate(store.names)}
        return {"step": row["step"], "loss": row["loss"], "l0": row["l0"], "dead": row["dead_share"], **fve}

    def show(step: int, row: dict[str, float]) -> None:
        progress.to(step, f"loss {row['loss']:.3f}  l0 {row['l0']:.1f}  dead {row['dead_share']:.2f}")

    with bar("training the crosscoder", config.steps) as progress:
        cc = train(
            rows,
            shape,
            recipe,
            on_step=show,
            log=log,
        )
    cc.save(out)
    (out / "metrics.jsonl").write_text("".join(json.dumps(named(row)) + "\n" for row in log))
    measured = evaluate(cc, rows)
    (out / "evaluation.json").write_text(
        json.dumps(
            {
                "fve": dict(zip(store.names, measured.fve, strict=True)),
                "l0": measured.l0,
                "k": config.k,
                "dead": measured.dead_share,
                "n_latents": config.n_latents,
                "rows": store.rows,
            },
            indent=1,
        )
    )
    return store.rows
