"""The stage `causal`'s arms on activations: latents of behaviours and of the decision, the dictionary, a direction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from interp.activations.store import open_store
from interp.causal.arms import Arm
from interp.causal.circuit_arms import circuit_arms
from interp.causal.edits import error_only, reconstruction_only
from interp.causal.edits.latents import Scale
from interp.causal.places import after_first
from interp.causal.steering import Direction
from interp.causal.study_arms import Sizes, latent_arms, steering_arms
from interp.crosscoder import Crosscoder
from interp.directions import Provenance, difference_of_means
from interp.features.circuit import CLASSES
from interp.features.labelled import Labelled
from interp.models.trio import Trio
from interp.names import BEHAVIOURS, EDITED
from interp.stages.decisions import held_back
from interp.stages.features import labelled
from interp.study import Study
from interp.traces.labels import ELSEWHERE, INSIDE


def activation_arms(study: Study, trio: Trio, device: torch.device, out: Path) -> list[Arm]:
    """Edits of latents, of the dictionary itself, and along the behaviour's direction."""
    config = study.config
    tested = held_back(study)
    n = min(len(tested), config.causal.problems)
    sizes = Sizes(config.causal.controls, config.causal.latent_control_problems, config.seed)
    store = open_store(study.folder("activations"))
    skip = config.activations.skip_first
    latents = pl.read_parquet(study.folder("features") / "latents.parquet", glob=False)
    cc = Crosscoder.load(study.folder("crosscoder"), device)
    data = labelled(study, trio.tokenizer)
    chosen = selected_latents(latents, config.causal.max_latents)
    names = tuple(store.names)
    site = store.place
    edits = {behaviour: Scale(site, cc, tuple(group), models=names) for behaviour, group in chosen.items()}
    everything = sorted({j for group in chosen.values() for j in group})
    firing, size = at_edits(cc, data)
    arms = latent_arms(edits, after_first(skip), firing, size, everything, config.causal.amplify, sizes, n)
    arms += _circuit_arms(study, data, cc, names, sizes, n)
    for whole in (reconstruction_only, error_only):
        edit = whole(cc, site.layer, site=site.name)
        arms.append(
            Arm(
                edit.name,
                edit.at(after_first(skip)),
                family="latents",
                control_name="none: it is a control itself",
                problems=n,
                site=site.name,
                layer=site.layer,
            )
        )
    direction = behaviour_direction(data, tested)
    if direction is not None:
        (out / "directions").mkdir(exist_ok=True)
        direction.save(out / "directions" / "behaviour.safetensors")
        arms += steering_arms(direction, config.causal.doses, after_first(skip), sizes, n)
    return arms


def selected_latents(latents: pl.DataFrame, most: int) -> dict[str, list[int]]:
    """Behaviour to its confirmed latents, at most `most`, highest AUROC on the confirmation half first. Behaviours
    without one are absent."""
    chosen = {}
    for b in BEHAVIOURS:
        rows = latents.filter(pl.col(f"confirmed_{b}")).sort(f"auroc_confirm_{b}", descending=True).head(most)
        if len(rows):
            chosen[b] = rows["latent"].to_list()
    return chosen


def _circuit_arms(
    study: Study, data: Labelled, cc: Crosscoder, names: tuple[str, ...], sizes: Sizes, problems: int
) -> list[Arm]:
    """Ablations of the latents that the stage `features` has located."""
    found = json.loads((study.folder("features") / "circuit.json").read_text())
    ranked = pl.read_parquet(study.folder("features") / "deciding.parquet", glob=False)
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet", glob=False)
    site, everywhere = data.store.place, after_first(study.config.activations.skip_first)
    arms = []
    for name in CLASSES:
        if latents := found[name]["latents"]:
            order = ranked.filter(pl.col("class") == name, pl.col("effect") > 0)["latent"].to_list()
            firing, size = at_edits(cc, data, at_events(data, traces))
            edit = Scale(site, cc, tuple(latents), models=names)
            arms += circuit_arms(name, edit, order, everywhere, firing, size, sizes, problems)
    return arms


def at_events(data: Labelled, traces: pl.DataFrame) -> np.ndarray:
    """Which rows of the store are events of the edited model's texts (bool, one per row)."""
    mine = traces.filter(pl.col("model") == EDITED)
    tokens = {row["problem"]: [event["token"] for event in row["events"]] for row in mine.iter_rows(named=True)}
    places = {
        (text, start + token)
        for text, (model, problem, start) in enumerate(
            data.texts.select("model", "problem", "completion_start").iter_rows()
        )
        if model == EDITED
        for token in tokens[problem]
    }
    index = data.store.index
    return np.array([at in places for at in zip(index["text"], index["position"], strict=True)])


def at_edits(cc: Crosscoder, data: Labelled, where: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(firing rate, mean f·‖d‖ in the edited model's input units) of every latent at these rows (bool), or at all that
    stand in the edited model's texts."""
    slot = data.store.names.index(EDITED)
    rows_here = data.written_by(EDITED) if where is None else where
    mine = torch.from_numpy(rows_here).nonzero().squeeze(1)
    norms = (cc.W_dec[:, slot] / cc.scale[slot]).norm(dim=1)
    fired, moved = torch.zeros(cc.config.n_latents), torch.zeros(cc.config.n_latents)
    for rows in mine.split(8192):
        f = cc.encode(data.rows[rows].to(cc.W_dec.device)).cpu()
        fired += (f > 0).sum(0)
        moved += f.sum(0)
    n = max(1, len(mine))
    return (fired / n).numpy(), (moved / n * norms.cpu()).numpy()


def behaviour_direction(data: Labelled, tested: Sequence[str] | set[str] = ()) -> Direction | None:
    """Mean of the edited model's residuals inside any behaviour, off markers, minus that outside all of them; on
    problems other than those it is tested on. None where either kind of row is missing."""
    h = data.rows[:, data.store.names.index(data.subject)].float()
    other = ~np.isin(data.row_problem, list(tested))
    inside, elsewhere = data.in_any(INSIDE) & other, data.in_all(ELSEWHERE) & other
    if not inside.any() or not elsewhere.any():
        return None
    about = Provenance(
        method="difference of means",
        model=data.subject,
        positions="inside a behaviour, off markers; elsewhere",
        residual_norm=float(h.norm(dim=1).mean()),
    )
    made = difference_of_means(
        h[torch.from_numpy(inside)],
        h[torch.from_numpy(elsewhere)],
        layer=data.store.place.layer,
        site=data.store.place.name,
        about=about,
    )
    return Direction.of(made)
