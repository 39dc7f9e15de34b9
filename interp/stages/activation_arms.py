"""The stage `causal`'s arms on activations: latents of behaviours and of the decision, the dictionary, a direction."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from interp.activations.store import open_store
from interp.causal.arms import Arm
from interp.causal.circuit_arms import AT_FORKS, BEFORE_RESULTS, BEFORE_WORDS, Located, evidence_arms, removal_arms
from interp.causal.edits import error_only, reconstruction_only
from interp.causal.edits.latents import Scale, SetTo
from interp.causal.places import FORKS, PROMPT_END, Places, after_first, behind
from interp.causal.steering import Direction
from interp.causal.study_arms import Sizes, latent_arms, steering_arms
from interp.crosscoder import Crosscoder
from interp.directions import Provenance, difference_of_means
from interp.features.carriers import Carriers
from interp.features.circuit import CLASSES, DECIDING, WORDING
from interp.features.labelled import Labelled
from interp.generation.vocabulary import read_vocabulary
from interp.models.trio import Trio
from interp.names import BEHAVIOURS, EDITED, GENUINE
from interp.stages.decisions import held_back
from interp.stages.features import carriers_file, labelled
from interp.study import Study
from interp.traces.announcements import announcements
from interp.traces.events import COMMON, kind_of_end
from interp.traces.labels import ELSEWHERE, INSIDE, token_offsets
from interp.traces.lexicon import Lexicon, load_lexicon
from interp.traces.redone import redone

Offsets = Sequence[Sequence[tuple[int, int]]]
"""Of each text, the characters [start, end) of its tokens."""


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
    arms += _circuit_arms(study, trio, data, cc, names, sizes, n)
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
    """Behaviour to its confirmed latents that no reverse control explains by words, at most `most`, highest AUROC on
    the confirmation half first. Behaviours without one are absent."""
    chosen, genuine = {}, pl.col("kind") == GENUINE
    for b in BEHAVIOURS:
        rows = latents.filter(pl.col(f"confirmed_{b}"), genuine).sort(f"auroc_confirm_{b}", descending=True).head(most)
        if len(rows):
            chosen[b] = rows["latent"].to_list()
    return chosen


def _circuit_arms(
    study: Study, trio: Trio, data: Labelled, cc: Crosscoder, names: tuple[str, ...], sizes: Sizes, problems: int
) -> list[Arm]:
    """Ablations of the latents that the stage `features` has located, and the removals of the circuit's verdict."""
    lexicon, (mine, offsets) = load_lexicon(study.config.traces.lexicon), _written(study, trio)
    located = _located(study, data, cc, names, lexicon, mine, offsets)
    forks = [[event["token"] for event in row["events"] if event["behaviour"] is None] for row in mine]
    words = announcements([row["text"] for row in mine], forks, lexicon, offsets)
    if words is not None:
        tokenizer = trio.tokenizers[EDITED]
        words = words.spelled(read_vocabulary(tokenizer, len(tokenizer)).encode)
    models = tuple(name for name in (EDITED, "base") if name in names)
    arms = [arm for name, found in located.items() for arm in evidence_arms(name, found, sizes, problems)]
    return arms + removal_arms(located, lexicon, words, models, sizes, problems)


def _located(
    study: Study,
    data: Labelled,
    cc: Crosscoder,
    names: tuple[str, ...],
    lexicon: Lexicon,
    mine: Sequence[Mapping[str, Any]],
    offsets: Offsets,
) -> dict[str, Located]:
    """Class to its claimed latents; those of which none is claimed are absent."""
    found = json.loads((study.folder("features") / "circuit.json").read_text())
    everywhere, located = after_first(study.config.activations.skip_first), {}
    for name in CLASSES:
        if latents := found[name]["latents"]:
            at, says, tokens = _decided_at(name, lexicon, mine, offsets)
            level = np.array(found[name]["level"])
            firing, size = at_edits(cc, data, at_tokens(data, tokens), level)
            values = tuple(level[latents].tolist())
            located[name] = Located(
                edit=SetTo(data.store.place, cc, tuple(latents), values=values, models=names),
                level=level,
                order=found[name]["order"],
                at=at,
                says=says,
                everywhere=everywhere,
                firing=firing,
                size=size,
                never=no_control(found),
                others=Carriers.load(study.folder("features") / carriers_file(name)),
            )
    return located


def no_control(found: Mapping[str, Any]) -> list[int]:
    """Latents that are drawn for no control, of `features/circuit.json`: the claimed ones of every class, and those
    that do other harm."""
    return [j for name in CLASSES for j in (*found[name]["latents"], *found[name].get("harmful", ()))]


def _decided_at(
    name: str, lexicon: Lexicon, mine: Sequence[Mapping[str, Any]], offsets: Offsets
) -> tuple[Places, str, dict[str, list[int]]]:
    """Where a class's decision is made: as places of an edit, in words, and as tokens of the edited model's texts by
    problem."""
    if name == DECIDING:
        events = {row["problem"]: [event["token"] for event in row["events"]] for row in mine}
        return FORKS, AT_FORKS, events
    kinds, tokens = Counter[str](), {}
    for row, where in zip(mine, offsets, strict=True):
        text = row["text"]
        # What begins the completion is decided at the prompt's end, which is a place of its own.
        starts = [start for start in _starts(name, text, lexicon) if start]
        kinds.update(kind_of_end(text[:start]) for start in starts)
        ends = [end for _, end in where]
        tokens[row["problem"]] = [bisect_right(ends, start) - 1 for start in starts]
    usual = behind(frozenset(kind for kind, n in kinds.items() if n >= COMMON * kinds.total()))
    return (usual | PROMPT_END, BEFORE_WORDS, tokens) if name == WORDING else (usual, BEFORE_RESULTS, tokens)


def _starts(name: str, text: str, lexicon: Lexicon) -> list[int]:
    """Characters of a text at which what a class carries begins: words that open a check, or results of steps that are
    worked twice."""
    if name == WORDING:
        return [span.start for span in (*lexicon.marker_spans(text), *lexicon.neutral_spans(text))]
    return [at for step in redone(text, lexicon) for at in step.result_at]


def _written(study: Study, trio: Trio) -> tuple[list[dict[str, Any]], Offsets]:
    """Rows of `traces.parquet` of the edited model, with the characters of their tokens."""
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet", glob=False)
    mine = traces.filter(pl.col("model") == EDITED).to_dicts()
    tokenizer = trio.tokenizers[EDITED]
    return mine, [token_offsets(tokenizer, row["completion_ids"]) for row in mine]


def at_tokens(data: Labelled, tokens: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Which rows of the store are these tokens of the edited model's completions, by problem (bool, one per row)."""
    places = {
        (text, start + token)
        for text, (model, problem, start) in enumerate(
            data.texts.select("model", "problem", "completion_start").iter_rows()
        )
        if model == EDITED
        for token in tokens.get(problem, ())
    }
    index = data.store.index
    return np.array([at in places for at in zip(index["text"], index["position"], strict=True)])


def at_edits(
    cc: Crosscoder, data: Labelled, where: np.ndarray | None = None, level: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(firing rate, mean |f - level|·‖d‖ in the edited model's input units) of every latent at these rows (bool), or at
    all that stand in the edited model's texts; a level of 0 where none is given."""
    slot = data.store.names.index(EDITED)
    rows_here = data.written_by(EDITED) if where is None else where
    mine = torch.from_numpy(rows_here).nonzero().squeeze(1)
    norms = (cc.W_dec[:, slot] / cc.scale[slot]).norm(dim=1)
    fired, moved = torch.zeros(cc.config.n_latents), torch.zeros(cc.config.n_latents)
    for rows in mine.split(8192):
        f = cc.encode(data.rows[rows].to(cc.W_dec.device)).cpu()
        fired += (f > 0).sum(0)
        moved += (f if level is None else (f - torch.from_numpy(level).to(f)).abs()).sum(0)
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
