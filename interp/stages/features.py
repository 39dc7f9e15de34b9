"""Stage `features`: a catalogue of all latents, the behaviours' latents, and the contexts in which they fire."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from scipy.sparse import csc_array
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.activations.harvest import Text, harvest
from interp.activations.store import Store, open_store
from interp.config import FeaturesConfig
from interp.crosscoder import Crosscoder
from interp.features.activations import column, encode_sparse
from interp.features.behaviour import FEWEST, Scores, q_values, score, selection_half
from interp.features.falsify import inject, kind_of, top_tokens
from interp.features.specificity import (
    NORM_EXCLUSIVE,
    NU_ERROR,
    NU_RECON,
    latent_scaling,
    nu,
    smallest_cosine,
    specificity,
    worst_other,
)
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.progress import bar
from interp.stages.traces import checkpoint_paths
from interp.study import Study
from interp.traces.labels import covered, positions, token_offsets
from interp.traces.lexicon import Span
from interp.traces.segment import BEHAVIOURS

SUBJECT = "distilled"
"""Whose rollouts the behaviours are looked for in."""
INJECTED_TEXTS = 128
STEPS = 4


@dataclass(frozen=True)
class Labelled:
    """The store's rows with what the traces say of them."""

    store: Store
    rows: Float[Tensor, "rows models d_model"]
    texts: pl.DataFrame
    row_model: np.ndarray
    """Whose text each row is of."""
    row_problem: np.ndarray
    label: dict[str, np.ndarray]
    """Behaviour to each row's place: marker, inside, before, elsewhere, or none (prompts and other models' texts)."""


def run(study: Study, out: Path) -> int:
    """Write `latents.parquet` and `examples.parquet`; returns the number of latents."""
    config = study.config.features
    torch.set_num_threads(study.config.threads)
    trio = open_trio(checkpoint_paths(study))
    cc = Crosscoder.load(study.folder("crosscoder"))
    with bar("describing latents", STEPS) as progress:
        data = _labelled(study, trio.tokenizer)
        f = encode_sparse(cc, data.rows)
        progress.advance()
        latents = pl.concat([_catalogue(cc, f, data), _per_model(f, data)], how="horizontal")
        progress.advance()
        latents = latents.with_columns(_behaviour_columns(f, data, config))
        latents = latents.with_columns(_kinds(study, trio, cc, f, data, latents))
        progress.advance()
        latents.write_parquet(out / "latents.parquet")
        _examples(f, data, latents, trio.tokenizer, config).write_parquet(out / "examples.parquet")
        progress.advance()
    return len(latents)


def _labelled(study: Study, tokenizer: PreTrainedTokenizerBase) -> Labelled:
    store = open_store(study.folder("activations"))
    texts = pl.read_parquet(study.folder("activations") / "texts.parquet")
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet").filter(pl.col("model") == SUBJECT)
    by_problem = {row["problem"]: row for row in traces.iter_rows(named=True)}
    text_of, position = store.index["text"].to_numpy(), store.index["position"].to_numpy()
    label = {b: np.full(len(text_of), "none", dtype="<U9") for b in BEHAVIOURS}
    starts = np.searchsorted(text_of, np.arange(len(texts) + 1))
    for i, row in enumerate(texts.iter_rows(named=True)):
        if row["model"] != SUBJECT:
            continue
        trace = by_problem[row["problem"]]
        offsets = token_offsets(tokenizer, trace["completion_ids"])
        marker = covered(offsets, _spans(trace["marker_spans"]))
        here = slice(starts[i], starts[i + 1])
        at = position[here] - row["completion_start"]
        for b in BEHAVIOURS:
            places = np.array(positions(covered(offsets, _spans(trace["behaviour_spans"]), b), marker), dtype="<U9")
            label[b][here] = np.where(at >= 0, places[np.clip(at, 0, None)] if len(places) else "none", "none")
    return Labelled(
        store,
        store.tensor(),
        texts,
        texts["model"].to_numpy()[text_of],
        texts["problem"].to_numpy()[text_of],
        label,
    )


def _spans(rows: list[dict]) -> list[Span]:
    return [Span(**row) for row in rows]


def _catalogue(cc: Crosscoder, f: csc_array, data: Labelled) -> pl.DataFrame:
    """Frequency, norms, specificity and Latent Scaling of every latent."""
    names = np.array(data.store.names)
    w_dec = cc.W_dec.detach()
    share = specificity(w_dec)
    claimed = share.argmax(1)
    scaling = latent_scaling(cc, data.rows)
    nu_error, nu_recon = (worst_other(nu(beta), claimed) for beta in (scaling.error, scaling.reconstruction))
    firing = np.diff(f.indptr) / f.shape[0]
    alive = firing > 0
    exclusive = alive & (nu_error < NU_ERROR) & (nu_recon < NU_RECON)
    by_norm = alive & (share.amax(1).numpy() > NORM_EXCLUSIVE)
    model = names[claimed.numpy()]
    return pl.DataFrame(
        {
            "latent": np.arange(f.shape[1]),
            "firing_rate": firing,
            "decoder_norm": w_dec.norm(dim=2).sum(1).numpy(),
            **{f"specificity_{name}": share[:, m].numpy() for m, name in enumerate(names)},
            "exclusive_to": [str(m) if yes else None for m, yes in zip(model, exclusive, strict=True)],
            "exclusive_by_norm": [str(m) if yes else None for m, yes in zip(model, by_norm, strict=True)],
            "nu_error_max": np.where(alive, nu_error, np.nan),
            "nu_recon_max": np.where(alive, nu_recon, np.nan),
            "cosine_min": smallest_cosine(w_dec).numpy(),
        },
        schema_overrides={"exclusive_to": pl.String, "exclusive_by_norm": pl.String},
    )


def _per_model(f: csc_array, data: Labelled) -> pl.DataFrame:
    """Firing rate and mean activation on each model's own rollouts."""
    columns = {}
    for name in data.store.names:
        own = f[data.row_model == name]
        columns[f"rate_{name}"] = np.diff(csc_array(own).indptr) / max(1, own.shape[0])
        columns[f"mean_{name}"] = np.asarray(own.sum(axis=0)).ravel() / max(1, own.shape[0])
    return pl.DataFrame(columns)


def _behaviour_columns(f: csc_array, data: Labelled, config: FeaturesConfig) -> list[pl.Series]:
    chosen = selection_half(data.row_problem.tolist())
    alive = np.diff(f.indptr) > 0
    columns = []
    for b in BEHAVIOURS:
        inside, elsewhere = data.label[b] == "inside", data.label[b] == "elsewhere"
        enough = min((inside & chosen).sum(), (inside & ~chosen).sum()) >= FEWEST
        first, second = (
            _score_half(f, inside & half, elsewhere & half) if enough else _chance(f.shape[1])
            for half in (chosen, ~chosen)
        )
        q = q_values(first.p, alive)
        confirmed = enough & (q < config.q) & (first.auroc >= config.auroc) & (second.auroc >= config.auroc)
        columns += [
            pl.Series(f"auroc_{b}", first.auroc),
            pl.Series(f"auroc_confirm_{b}", second.auroc),
            pl.Series(f"d_{b}", second.d),
            pl.Series(f"q_{b}", q),
            pl.Series(f"confirmed_{b}", confirmed),
        ]
    at_marker = data.label[BEHAVIOURS[0]] == "marker"
    elsewhere = np.logical_and.reduce([data.label[b] == "elsewhere" for b in BEHAVIOURS])
    return [*columns, pl.Series("auroc_marker", score(f, at_marker, elsewhere).auroc)]


def _score_half(f: csc_array, positive: np.ndarray, negative: np.ndarray) -> Scores:
    return score(f, positive, negative)


def _chance(n_latents: int) -> Scores:
    return Scores(np.full(n_latents, 0.5), np.zeros(n_latents), np.ones(n_latents))


def _kinds(
    study: Study, trio: Trio, cc: Crosscoder, f: csc_array, data: Labelled, latents: pl.DataFrame
) -> list[pl.Series]:
    """Put every confirmed latent to token injection; `injected` and `inside` are mean activations."""
    confirmed = latents.filter(pl.any_horizontal(f"confirmed_{b}" for b in BEHAVIOURS))["latent"].to_list()
    kind = ["unconfirmed" if rate > 0 else "" for rate in latents["firing_rate"]]
    inside_mean, injected_mean = np.full(len(latents), np.nan), np.full(len(latents), np.nan)
    quiet = _without_behaviour(data)
    if confirmed and quiet:
        device = pick_device(study.config.device)
        models = {name: load_model(name, trio.paths[name], device) for name in data.store.names}
        rng, tokens = np.random.default_rng(study.config.seed), data.store.index["token"].to_numpy()
        inside = np.logical_or.reduce([data.label[b] == "inside" for b in BEHAVIOURS])
        layer = int(data.store.site.split(".")[1])
        for j in confirmed:
            rows, values = column(f, j)
            here = inside[rows]
            injected, places = inject(quiet, top_tokens(tokens[rows[here]], values[here]), rng)
            best = np.logical_or.reduce([data.label[b] == "inside" for b in BEHAVIOURS if latents[f"confirmed_{b}"][j]])
            inside_mean[j] = values[best[rows]].sum() / max(1, best.sum())
            injected_mean[j] = _mean_at(cc, models, injected, places, layer, j, study)
            kind[j] = kind_of(inside_mean[j], injected_mean[j])
    return [pl.Series("kind", kind), pl.Series("inside", inside_mean), pl.Series("injected", injected_mean)]


def _without_behaviour(data: Labelled) -> list[Text]:
    """Rollouts of the subject in which nothing is reflected on or verified and no marker stands."""
    subject = data.row_model == SUBJECT
    busy = np.logical_or.reduce([np.isin(data.label[b], ["inside", "marker"]) for b in BEHAVIOURS])
    text_of = data.store.index["text"].to_numpy()
    quiet = sorted(set(text_of[subject].tolist()) - set(text_of[busy].tolist()))
    rows = data.texts[quiet[:INJECTED_TEXTS]].iter_rows(named=True)
    return [t for t in (Text(**row) for row in rows) if len(t.ids) > t.completion_start + 1]


def _mean_at(cc, models, texts: list[Text], places: list[int], layer: int, latent: int, study: Study) -> float:
    """Mean activation of one latent at one position of each text."""
    total, n = 0.0, 0
    batches = harvest(models, texts, layer, pad_id=0, skip_first=0, masked_ids=(), batch_size=len(texts))
    for batch in batches:
        at = batch.position == torch.tensor(places)[batch.text]
        total += float(cc.encode(batch.resid[at], torch.tensor([latent])).sum())
        n += int(at.sum())
    return total / max(1, n)


def _examples(
    f: csc_array, data: Labelled, latents: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, config: FeaturesConfig
) -> pl.DataFrame:
    """Top contexts of the listed latents, of each model's texts."""
    text_of, position = data.store.index["text"].to_numpy(), data.store.index["position"].to_numpy()
    rows = []
    for j in _listed(latents, config.listed):
        active, values = column(f, j)
        strength = np.zeros(f.shape[0], dtype=np.float32)
        strength[active] = values
        for name in data.store.names:
            own = data.row_model[active] == name
            rank, seen = 0, set()
            for at in active[own][np.argsort(-values[own], kind="stable")]:
                if rank == config.contexts:
                    break
                if text_of[at] in seen:
                    continue
                seen.add(text_of[at])
                rows.append({"latent": j, "model": name, "rank": rank} | _context(at, text_of, position, strength, data, tokenizer))
                rank += 1
    schema = {
        "latent": pl.Int64,
        "model": pl.String,
        "rank": pl.Int64,
        "tokens": pl.List(pl.String),
        "activations": pl.List(pl.Float64),
        "peak": pl.Int64,
        "problem": pl.String,
    }
    return pl.DataFrame(rows, schema=schema)


def _listed(latents: pl.DataFrame, n: int) -> list[int]:
    """Confirmed latents, then exclusive ones, then the most frequent."""
    confirmed = pl.any_horizontal(f"confirmed_{b}" for b in BEHAVIOURS)
    order = latents.filter(pl.col("firing_rate") > 0).sort(
        confirmed, pl.col("exclusive_to").is_not_null(), pl.col("firing_rate"), descending=True, maintain_order=True
    )
    return order["latent"].head(n).to_list()


def _context(
    at: int, text_of: np.ndarray, position: np.ndarray, strength: np.ndarray, data: Labelled, tokenizer, around: int = 16
) -> dict:
    """The tokens around a row of the store, with the latent's activation on each (0 where no row is kept)."""
    ids = data.texts["ids"][int(text_of[at])].to_list()
    peak = int(position[at])
    start, end = max(0, peak - around), min(len(ids), peak + around // 2)
    first = at - (peak - int(position[np.searchsorted(text_of, text_of[at])]))
    here = {int(position[r]): float(strength[r]) for r in range(max(0, first), min(len(text_of), at + around)) if text_of[r] == text_of[at]}
    return {
        "tokens": [tokenizer.decode([i]) for i in ids[start:end]],
        "activations": [here.get(p, 0.0) for p in range(start, end)],
        "peak": peak - start,
        "problem": data.texts["problem"][int(text_of[at])],
    }
