"""`interp steer dose`: dose-response on every model, beside random directions, and the usable range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import torch

from interp.causal.arms import Arm
from interp.causal.coherence import perplexity
from interp.causal.effects import table
from interp.causal.run import cells_of
from interp.causal.run import run as run_arms
from interp.causal.runs import UNTOUCHED, Runs
from interp.causal.setting import SAMPLED, Setting
from interp.causal.steering import Direction
from interp.config import StudyConfig
from interp.errors import InterpError
from interp.names import EDITED, MODELS
from interp.progress import bar
from interp.report.palette import house_style, save
from interp.steering.arms import COVARIANCE, NORM, Controls, dose_arms, dose_name
from interp.steering.figure import Curve, doses_figure
from interp.steering.inputs import Inputs, require
from interp.steering.response import Coherence, all_effects, failed, slopes, symmetric, usable
from interp.study import Study

SHOWN = ("model", "dose", "outcome", "estimate", "low", "high", "control_low", "control_high", "coherent", "note")
"""Columns of the effects that the direction's evidence holds."""
Ranges = dict[str, dict[str, tuple[float, float]]]
"""Model to place to the usable range of doses."""


@dataclass(frozen=True)
class Response:
    """What the doses did."""

    runs: Runs
    effects: pl.DataFrame
    slopes: pl.DataFrame
    ranges: Ranges


def run(study: Study) -> None:
    """Write runs, `effects.parquet`, `slopes.parquet`, one figure a model, and the evidence into the direction."""
    section = study.config.steering
    require(study, "checkpoints", "traces", "activations")
    inputs = Inputs(study)
    torch.set_num_threads(study.config.threads)
    direction = inputs.direction()
    rows = inputs.residual(direction.layer, direction.site)
    controls = Controls.of(direction, rows, section, study.config.seed)
    setting = inputs.setting
    models = tuple(sorted(setting.models, key=lambda name: (name != EDITED, MODELS.index(name))))
    skip = study.config.activations.skip_first
    arms = {w: dose_arms(direction, section.doses, w, models, skip, controls) for w in section.where}
    reached = that_occur(arms, setting, inputs)
    runs = all_runs([arm for group in reached.values() for arm in group], setting, inputs, "runs", models)
    found = respond(study.config, runs, list(reached), coherence_of(runs, setting))
    found.effects.write_parquet(inputs.folder / "effects.parquet")
    found.slopes.write_parquet(inputs.folder / "slopes.parquet")
    with_evidence(direction, found, study.config).save(inputs.file)
    with house_style():
        for model in models:
            curves = [Curve(w, found.ranges[model][w]) for w in reached]
            save(doses_figure(found.effects, model, curves), inputs.folder / "figures")
    for model in models:
        said = "; ".join(f"{w} {low:+g} to {high:+g}" for w, (low, high) in found.ranges[model].items())
        print(f"steer: {model}: usable range (× mean residual norm): {said}")
    print(f"steer: {inputs.folder}")


def that_occur(
    arms: dict[str, list[Arm]], setting: Setting, inputs: Inputs, name: str = "runs"
) -> dict[str, list[Arm]]:
    """The arms of the places that occur: the first arm of each place is run alone, and if it never acts on the edited
    model, the place is named and left out. That run is kept.

    Raises:
        InterpError: none of the places occurs.
    """
    probes = [replace(group[0], controls=(), control_name="none", models=(EDITED,)) for group in arms.values()]
    runs = all_runs(probes, setting, inputs, name, (EDITED,))
    kept = {}
    for (where, group), probe in zip(arms.items(), probes, strict=True):
        if runs.fired(probe.name).sum():
            kept[where] = group
        else:
            print(f"steer: steering.where = {where}: no such place in {len(setting.problems)} texts; arms left out")
    if not kept:
        raise InterpError(
            f"steer: none of steering.where = {', '.join(arms)} occurs in the texts; choose another place"
        )
    return kept


def all_runs(arms: Sequence[Arm], setting: Setting, inputs: Inputs, name: str, models: tuple[str, ...]) -> Runs:
    """The arms' runs in the folder STUDY/steering/NAME; those of the other folder are taken where they fit."""
    out = inputs.folder / name
    earlier = [inputs.folder / other for other in ("runs", "ablation_runs") if other != name]
    total = sum(len(cell.numbers) for cell in cells_of(arms, setting, models))
    with setting.crew() as spread, bar("steering", total) as progress:
        return run_arms(setting, arms, out, untouched=models, earlier=earlier, spread=spread, on_done=progress.advance)


def coherence_of(runs: Runs, setting: Setting) -> dict[str, dict[str, float]]:
    """Model to arm to the perplexity of its text under that untouched model, over that of its untouched text."""
    found: dict[str, dict[str, float]] = {}
    for name, about in runs.arms.items():
        for model in about["models"]:
            rows = runs.rows(name, 0, model)
            before = runs.rows(UNTOUCHED, 0, model).filter(pl.col("number").is_in(rows["number"].to_list()))
            after, plain = (
                perplexity(setting.models[model], t["prompt_ids"].to_list(), t["completion_ids"].to_list())
                for t in (rows, before)
            )
            found.setdefault(model, {})[name] = after / plain
    return found


def respond(config: StudyConfig, runs: Runs, places: Sequence[str], coherence: Coherence) -> Response:
    """Effects, slopes and usable ranges, a pure function of the runs and their perplexity."""
    section, guard = config.steering, config.causal.coherence
    wrong = failed(runs, coherence, guard)
    sizes = {"resamples": config.causal.resamples, "seed": config.seed}
    rows = all_effects(runs, section.controls, coherence, wrong, guard, **sizes)
    ranges: Ranges = {}
    sloped = []
    for model, arms in wrong.items():
        ranges[model] = {}
        for where in places:
            tried = {d: arms[dose_name(d, where)] for d in section.doses if d}
            band = ranges[model][where] = usable(list(tried), tried)
            sloped += slopes(runs, where, model, symmetric(band), section.controls, **sizes)
    return Response(runs, table(rows), table(sloped), ranges)


def with_evidence(direction: Direction, found: Response, config: StudyConfig) -> Direction:
    """The direction with what its doses did: `usable_range`, and `dose_response` and `slopes` of sampled text."""
    section = config.steering
    evidence = {
        "usable_range": {
            model: {w: list(band) for w, band in places.items()} for model, places in found.ranges.items()
        },
        "dose_response": _rows(found.effects.filter(pl.col("family") == "steering"), ("arm", *SHOWN)),
        "slopes": _rows(found.slopes, ("family", "arm", *SHOWN, "p", "p_holm")),
        "controls": {NORM: section.controls, COVARIANCE: section.covariance_controls},
        "guard": config.causal.coherence,
        "problems": int(found.effects["n_problems"].max() or 0),  # type: ignore[arg-type]
    }
    about = replace(direction.provenance, evidence=direction.provenance.evidence | evidence)
    return Direction(direction.vector, direction.layer, direction.site, about)


def _rows(effects: pl.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    sampled = effects.filter(pl.col("decoding") == SAMPLED).select(columns)
    return [{k: v for k, v in row.items() if v not in (None, "")} for row in sampled.iter_rows(named=True)]
