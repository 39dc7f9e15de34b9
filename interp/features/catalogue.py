"""The catalogue: one row per latent."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csc_array

from interp.crosscoder import Crosscoder
from interp.features.behaviour import FEWEST, Scores, q_values, score, selection_half
from interp.features.codes import size
from interp.features.labelled import Labelled
from interp.features.specificity import exclusive, smallest_cosine, specificity
from interp.names import BEHAVIOURS
from interp.traces.labels import ELSEWHERE, INSIDE


def describe(cc: Crosscoder, f: csc_array, data: Labelled) -> pl.DataFrame:
    """Frequency, norms, specificity and Latent Scaling of every latent."""
    names = np.array(data.store.names)
    w_dec = cc.W_dec.detach()
    share = specificity(w_dec)
    firing = np.diff(f.indptr) / size(f)[0]
    alive = firing > 0
    found = exclusive(cc, data.rows, f)
    model = names[found.model]
    return pl.DataFrame(
        {
            "latent": np.arange(size(f)[1]),
            "firing_rate": firing,
            "decoder_norm": w_dec.norm(dim=2).sum(1).cpu().numpy(),
            **{f"specificity_{name}": share[:, m].cpu().numpy() for m, name in enumerate(names)},
            "exclusive_to": [str(m) if yes else None for m, yes in zip(model, found.after_scaling, strict=True)],
            "exclusive_by_norm": [str(m) if yes else None for m, yes in zip(model, found.by_norm, strict=True)],
            "nu_error_max": np.where(alive, found.nu_error, np.nan),
            "nu_recon_max": np.where(alive, found.nu_recon, np.nan),
            "cosine_min": smallest_cosine(w_dec).cpu().numpy(),
        },
        schema_overrides={"exclusive_to": pl.String, "exclusive_by_norm": pl.String},
    )


def per_model(f: csc_array, data: Labelled) -> pl.DataFrame:
    """Firing rate and mean activation on each model's own rollouts; a row that several models wrote counts for each."""
    columns = {}
    for name in data.store.names:
        own = f[data.written_by(name)]
        columns[f"rate_{name}"] = np.diff(csc_array(own).indptr) / max(1, own.shape[0])
        columns[f"mean_{name}"] = np.asarray(own.sum(axis=0)).ravel() / max(1, own.shape[0])
    return pl.DataFrame(columns)


def behaviours(f: csc_array, data: Labelled, auroc: float, q: float) -> pl.DataFrame:
    """Scores inside each behaviour (off markers) against elsewhere, on the selection half and on the other; confirmed
    where both AUROCs reach `auroc` and the selection half's false discovery rate is below `q`."""
    chosen, alive = selection_half(data.row_problem.tolist()), np.diff(f.indptr) > 0
    columns: dict[str, np.ndarray] = {}
    for b in BEHAVIOURS:
        inside, elsewhere = data.at(b, INSIDE), data.at(b, ELSEWHERE)
        enough = min((inside & chosen).sum(), (inside & ~chosen).sum()) >= FEWEST
        first, second = (
            score(f, inside & half, elsewhere & half) if enough else Scores.chance(size(f)[1])
            for half in (chosen, ~chosen)
        )
        found = q_values(first.p, alive)
        columns |= {
            f"auroc_{b}": first.auroc,
            f"auroc_confirm_{b}": second.auroc,
            f"d_{b}": second.d,
            f"q_{b}": found,
            f"confirmed_{b}": enough & (found < q) & (first.auroc >= auroc) & (second.auroc >= auroc),
        }
    return pl.DataFrame(columns | {"auroc_marker": score(f, data.at_marker(), data.in_all(ELSEWHERE)).auroc})
