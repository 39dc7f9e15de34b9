"""Stage `crosscoder`: train dictionaries between the models of the store, and measure the first."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp.activations.harvest import Harvest
from interp.activations.store import Store, open_store
from interp.activations.texts import Text, read_texts
from interp.config import StudyConfig
from interp.crosscoder import Crosscoder, TrainConfig, Trained, train_many
from interp.crosscoder.budget import described
from interp.crosscoder.metrics import firing_histogram
from interp.errors import InterpError
from interp.features.nulls import N_PAIRS, SCHEMA, claimed, pairs
from interp.features.splice import held_out_texts, splice
from interp.folders import finish_unit, unit_is_finished
from interp.generation.budget import free_budget, rows_that_fit
from interp.models.trio import load_model, open_trio, pick_device
from interp.names import EDITED
from interp.progress import bar
from interp.stages.traces import checkpoint_paths
from interp.study import Study
from interp.traces.tokens import pad_id
from interp.workers import beside

T = TypeVar("T")
STATE = "training"
"""Folder of the training state, in the scratch folder until the weights are written."""
WEIGHTS = ("config.json", "model.safetensors")
NULLS = "nulls.parquet"
TRAINED, SPLICED = ".trained.json", ".spliced.json"
"""Measurements of each unit, in the scratch folder until the stage is done."""


def run(study: Study, out: Path) -> int:
    """Write the weights (format 1), `metrics.jsonl` and `evaluation.json`, the other seeds' weights in `seed-1`,
    `seed-2` and so on, and `nulls.parquet`; returns the number of rows read.

    Training, splicing and nulls are units: an interrupted run resumes within the training, and repeats none that is
    done.
    """
    own, others = threads_of(study.config)
    torch.set_num_threads(own)
    store = open_store(study.folder("activations"))
    with ExitStack() as stack:
        nulls = None
        if others and not unit_is_finished(out, "nulls"):
            nulls = stack.enter_context(beside(partial(_nulls, study), others, "crosscoder.null_rows"))
        if not unit_is_finished(out, "weights"):
            files = _train(study, store, out)
            finish_unit(out, "weights", files)
        shutil.rmtree(out / STATE, ignore_errors=True)
        if not unit_is_finished(out, "spliced"):
            (out / SPLICED).write_text(json.dumps(_spliced(study, store, out)))
            finish_unit(out, "spliced", [SPLICED])
        if not unit_is_finished(out, "nulls"):
            with bar("training nulls", N_PAIRS) as progress:
                table = _nulls(study, progress.advance) if nulls is None else nulls()
                progress.to(N_PAIRS)
            table.write_parquet(out / NULLS)
            finish_unit(out, "nulls", [NULLS])
    measured, spliced = (json.loads((out / name).read_text()) for name in (TRAINED, SPLICED))
    (out / "evaluation.json").write_text(json.dumps(measured | {"spliced": spliced}, indent=1))
    return len(store)


def _train(study: Study, store: Store, out: Path) -> list[str]:
    """Train, and write weights, metrics and the measurements on held-out rows; returns the names of the files."""
    config = study.config.crosscoder
    shape, recipes = config.shape.between(*store.row_shape), config.recipes(study.config.seed, len(store))
    device, pairs = pick_device(study.config.device), [(shape, recipe) for recipe in recipes]
    print(f"  memory: {described(pairs, device)}")
    tracker = _tracker(config.wandb, study)
    with bar("training the crosscoder" + ("s" if len(pairs) > 1 else ""), recipes[0].steps) as progress:
        show = _reporter(store, recipes[0], progress.to, tracker)
        done, *others = train_many(store, pairs, on_step=show, checkpoint=out / STATE, device=device)
    if tracker is not None:
        tracker.finish()
    done.crosscoder.save(out)
    for i, other in enumerate(others, 1):
        other.crosscoder.save(out / other_seed(i))
    (out / "metrics.jsonl").write_text("".join(json.dumps(_named(row, store)) + "\n" for row in done.log))
    (out / TRAINED).write_text(json.dumps(_measured(done, store)))
    weights = [
        f"{folder}{name}" for folder in ("", *(f"{other_seed(i)}/" for i in range(1, len(pairs)))) for name in WEIGHTS
    ]
    return [*weights, "metrics.jsonl", TRAINED]


def other_seed(i: int) -> str:
    """Folder of the i-th of the other seeds' crosscoders, from 1 on."""
    return f"seed-{i}"


def other_seeds(folder: Path) -> list[tuple[int, Path]]:
    """Number and folder of each of the other seeds' crosscoders in this stage's folder."""
    found, i = [], 1
    while (one := folder / other_seed(i)).exists():
        found.append((i, one))
        i += 1
    return found


def _reporter(
    store: Store, recipe: TrainConfig, show: Callable[[int, str], None], tracker: Any
) -> Callable[[int, Sequence[Mapping[str, float]]], None]:
    """Callback(step, rows of metrics) that shows progress and speed, and sends the metrics to the tracker."""
    n_models, started = len(store.names), []

    def report(step: int, metrics: Sequence[Mapping[str, float]]) -> None:
        row = metrics[0]
        fve = sum(row[f"fve_{m}"] for m in range(n_models)) / n_models
        started.append((time.perf_counter(), step))
        (first, at), (now, _) = started[0], started[-1]
        speed = f"  {(step - at) * recipe.batch_size / (now - first):,.0f} rows/s" if step > at else ""
        show(step, f"fve {fve:.3f}  l0 {row['l0']:.1f}  dead {row['dead_share']:.2f}{speed}")
        if tracker is not None:
            tracker.log(_named(row, store), step=step)

    return report


def _measured(done: Trained, store: Store) -> dict[str, Any]:
    """Measurements on held-out rows, and how many rows were left out."""
    shape, held_out = done.crosscoder.config, done.held_out
    return {
        "fve": dict(zip(store.names, held_out.fve, strict=True)),
        "l0": held_out.l0,
        "k": shape.k,
        "dead": held_out.dead_share,
        "n_latents": shape.n_latents,
        "rows": len(store),
        "rows_held_out": held_out.n_rows,
        "rows_not_finite": done.n_bad,
        "rows_outlying": done.n_outlying,
        "firing": firing_histogram(held_out.firing),
    }


def _spliced(study: Study, store: Store, out: Path) -> dict[str, Any]:
    """Each model's loss when the reconstruction replaces its residual, on texts of held-out problems."""
    crosscoder = Crosscoder.load(out, pick_device(study.config.device))
    trio = open_trio(checkpoint_paths(study))
    models = {name: load_model(name, trio.paths[name], crosscoder.mean.device) for name in store.names}
    texts = spread(held_out_texts(store), study.config.crosscoder.spliced_texts)
    source = Harvest(
        models,
        texts,
        store.place,
        pad_id(trio.tokenizer),
        min(study.config.activations.batch_size, _rows_at_once(models[EDITED], texts)),
        study.config.activations.skip_first,
        trio.masked_ids,
    )
    return {name: asdict(model) for name, model in splice(crosscoder, source).items()}


def threads_of(config: StudyConfig) -> tuple[int, int]:
    """CPU threads of the dictionaries, and of the nulls that another process trains at the same time; 0 where they are
    trained afterwards: on a GPU, and with one thread.

    They are a third: with the defaults the nulls are half as much work. A small dictionary's operations are too short
    for more than one or two threads.
    """
    if config.threads == 1 or not config.crosscoder.null_steps or pick_device(config.device).type == "cuda":
        return config.threads, 0
    others = max(1, config.threads // 3)
    return config.threads - others, others


def _nulls(study: Study, on_done: Callable[[], None] = lambda: None) -> pl.DataFrame:
    """Claims of exclusive latents between models of which none, or every, latent is exclusive."""
    section, device = study.config.crosscoder, pick_device(study.config.device)
    if not section.null_steps:
        return pl.DataFrame(schema=SCHEMA)
    store = open_store(study.folder("activations"))
    texts = read_texts(store.folder / "texts.parquet")
    index = store.index.with_row_index("row")
    chosen = _enough(index["text"].to_list(), section.null_rows, study.config.seed)
    here = index.filter(pl.col("text").is_in(chosen))
    rows = store.read(torch.from_numpy(here["row"].to_numpy().astype("int64")))
    base, subject = (rows[:, store.names.index(name)] for name in ("base", EDITED))
    control = _control(study, store, {i: texts[i] for i in chosen}, here)
    found = []
    for first, second, why, both in pairs(base, subject, control, study.config.seed):
        shape = section.shape.between(2, both.shape[2])
        recipe = section.recipes(study.config.seed, len(both))[0].model_dump() | {"steps": section.null_steps}
        counted = claimed(both, shape, TrainConfig.model_validate(recipe), device)
        found.append({"first": first, "second": second, "why": why} | counted)
        on_done()
    return pl.DataFrame(found, schema=SCHEMA)


def _enough(text_of: Sequence[int], most: int, seed: int) -> list[int]:
    """Random texts, in order, that hold at most `most` rows together."""
    counts = Counter(text_of)
    order, kept, n = random.Random(seed).sample(sorted(counts), len(counts)), [], 0
    for text in order:
        if n + counts[text] > most:
            break
        kept.append(text)
        n += counts[text]
    return sorted(kept)


def _control(study: Study, store: Store, texts: Mapping[int, Text], here: pl.DataFrame) -> Tensor | None:
    """The control's residuals at the store's rows of these texts; None where there is no control, or where it does not
    read the same tokens at the same places (a chat template of its own)."""
    trio = open_trio(checkpoint_paths(study))
    if "control" not in trio.names or any(text.prompts for text in texts.values()):
        return None
    model = load_model("control", trio.paths["control"], pick_device(study.config.device))
    section = study.config.activations
    source = Harvest(
        {"control": model},
        list(texts.values()),
        store.place,
        pad_id(trio.tokenizer),
        min(section.batch_size, _rows_at_once(model, list(texts.values()))),
        section.skip_first,
        trio.masked_ids,
    )
    number = torch.tensor(list(texts))
    batches = [(number[b.text], b.position, b.resid[:, 0].to(torch.bfloat16)) for b in source.batches()]
    text, position, resid = (torch.cat(parts) for parts in zip(*batches, strict=True))
    at = {key: row for row, key in enumerate(zip(text.tolist(), position.tolist(), strict=True))}
    return resid[[at[key] for key in zip(here["text"], here["position"], strict=True)]]


def _rows_at_once(model: PreTrainedModel, texts: Sequence[Text]) -> int:
    """Texts whose next-token distributions, the clean and the edited ones, fit into the free memory together."""
    longest = max((len(text.ids) for text in texts), default=1)
    budget, twice = free_budget(model.device), 2 * longest
    return rows_that_fit(model.config, longest, budget, model.dtype, logits_positions=twice)


def spread(texts: Sequence[T], n: int) -> list[T]:
    """`n` texts at even distances (all where there are fewer), so that every part of the stream is among them."""
    n = min(n, len(texts))
    return [texts[i * len(texts) // n] for i in range(n)]


def _tracker(project: str | None, study: Study) -> Any:
    """A wandb run; None where the config names no project.

    Raises:
        InterpError: wandb is not installed.
    """
    if project is None:
        return None
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError as error:
        raise InterpError(f"crosscoder.wandb = {project}: wandb is not installed; pip install wandb") from error
    return wandb.init(project=project, name=study.config.name, config=study.config.model_dump(mode="json"))


def _named(row: Mapping[str, float], store: Store) -> dict[str, float]:
    """A row of metrics, its keys with the models' names instead of their numbers."""
    names = {f"fve_{m}": f"fve_{name}" for m, name in enumerate(store.names)} | {"dead_share": "dead"}
    return {names.get(key, key): value for key, value in row.items()}
