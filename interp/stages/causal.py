"""Stage `causal`: edits of the distilled model with matched controls, and the verdict."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.store import open_store
from interp.activations.texts import read_texts
from interp.causal.arms import (
    latent_family,
    latent_verdict_arms,
    patching_family,
    reconstruction_arms,
    steering_family,
    text_arms,
)
from interp.causal.effects import table
from interp.causal.latent_sets import latent_arms, selected_latents
from interp.causal.pairs import make_pairs
from interp.causal.patching import SITES, open_bridge
from interp.causal.subject import Subject
from interp.causal.verdict import Arm, as_json, conclude
from interp.config import StudyConfig
from interp.crosscoder import Crosscoder
from interp.errors import InterpWarning
from interp.features.labelled import Labelled
from interp.models.sites import patched_layers
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.names import EDITED, OUTCOMES
from interp.organisms.documents import TRUTHS
from interp.progress import Bar, bar
from interp.stages.features import labelled
from interp.stages.problems import labels_by_construction, task_of, test_problems
from interp.stages.traces import checkpoint_paths, prompts_of
from interp.statistics import Bootstrap
from interp.study import Study
from interp.traces.labels import ELSEWHERE, INSIDE
from interp.traces.lexicon import load_lexicon
from interp.traces.measure import Outcomes


def run(study: Study, out: Path) -> int:
    """Write `effects.parquet` and `verdict.json`; returns the number of effects."""
    config = study.config
    torch.set_num_threads(config.threads)
    trio, device = open_trio(checkpoint_paths(study)), pick_device(config.device)
    latents = pl.read_parquet(study.folder("features") / "latents.parquet", glob=False)
    chosen = selected_latents(latents, config.causal.max_latents)
    n = min(config.causal.latent_problems, config.causal.problems, len(test_problems(config)))
    with bar("editing", _completions(config, n, len(chosen), trio)) as progress:
        subject = _subject(study, trio, device, progress)
        _warn_of_own_prompts(study)
        cc = Crosscoder.load(study.folder("crosscoder"), device)
        untouched, base = _untouched(subject, trio, config.traces.chat_template)
        rows = _patching(study, trio, subject, device, progress)
        arms, text_rows = text_arms(
            subject, untouched, config.causal.controls, n, construction=labels_by_construction(config)
        )
        sets = latent_arms(latents, chosen, config.causal.amplify, config.causal.controls, config.seed)
        ran, latent_rows = latent_family(subject, cc, sets, untouched, n)
        if not labels_by_construction(config) and "verification" in chosen:
            arms |= latent_verdict_arms(ran, subject, cc, chosen["verification"], n)
        rows += text_rows + latent_rows + reconstruction_arms(subject, cc, untouched, n)
        rows += _steering(study, trio, subject, untouched, n)
    table(rows).write_parquet(out / "effects.parquet")
    (out / "verdict.json").write_text(json.dumps(_verdict(study, untouched, base, arms), indent=1))
    return len(rows)


def _completions(config: StudyConfig, n: int, behaviours: int, trio: Trio) -> int:
    """Total of the progress bar: completions, and one for each patched forward."""
    whole, controls = min(config.causal.problems, config.traces.problems), 1 + config.causal.controls
    construction = labels_by_construction(config)
    text = (3 if construction else 1) * (whole + n * config.causal.controls) + n
    latents = 2 * behaviours * controls * n + 2 * n + (0 if construction else n)
    return 2 * whole + text + latents + (1 + len(config.causal.doses) * controls) * n + _patches(config, trio)


def _patches(config: StudyConfig, trio: Trio) -> int:
    return 2 * len(patched_layers(config.causal.patch_layers, trio.n_layers)) * len(SITES)


def _subject(study: Study, trio: Trio, device: torch.device, progress: Bar) -> Subject:
    config, store = study.config, open_store(study.folder("activations"))
    problems = test_problems(config)[: config.causal.problems]
    return Subject(
        name=EDITED,
        models={name: load_model(name, trio.paths[name], device) for name in store.names},
        tokenizer=trio.tokenizer,
        task=task_of(config),
        lexicon=load_lexicon(config.traces.lexicon),
        problems=problems,
        prompts=prompts_of(trio, EDITED, problems, config.traces.chat_template),
        resamples=config.causal.resamples,
        layer=store.layer,
        skip_first=config.activations.skip_first,
        max_new_tokens=config.traces.max_new_tokens,
        temperature=config.traces.temperature,
        batch_size=config.causal.batch_size,
        seed=config.seed,
        end_ids=trio.end_ids[EDITED],
        on_copies=progress.advance,
    )


def _warn_of_own_prompts(study: Study) -> None:
    """Warn where the models' prompts differ: a companion reads the edited model's prompt, not the one it knows."""
    if any(text.prompts for text in read_texts(study.folder("activations") / "texts.parquet")):
        warnings.warn(
            "the models' chat templates differ; edits of latents read the distilled model's prompt in every model",
            InterpWarning,
            stacklevel=2,
        )


def _untouched(subject: Subject, trio: Trio, chat: bool) -> Iterator[Outcomes]:
    """Outcomes of the distilled model and of the base on the same noise, each with its own prompts and end tokens."""
    base = replace(
        subject,
        name="base",
        tokenizer=trio.tokenizers["base"],
        prompts=prompts_of(trio, "base", subject.problems, chat),
        end_ids=trio.end_ids["base"],
    )
    for one in (subject, base):
        yield one.outcomes(one.run(len(one.problems), 1)[0])


def _patching(study: Study, trio: Trio, subject: Subject, device: torch.device, progress: Bar) -> list[dict]:
    config = study.config
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet", glob=False).filter(pl.col("model") == EDITED)
    pairs = make_pairs(traces, trio.tokenizer, subject.lexicon, config.causal.pairs)
    layers = patched_layers(config.causal.patch_layers, trio.n_layers)
    if len(pairs) < 8 or not layers:
        progress.advance(_patches(config, trio))
        return []
    # The bridge changes the model it wraps, so it gets one of its own.
    path = trio.paths[EDITED]
    bridge = open_bridge(path, load_model(EDITED, path, device), trio.tokenizer)
    return patching_family(
        bridge,
        pairs,
        layers,
        EDITED,
        config.causal.controls,
        config.causal.resamples,
        config.seed,
        progress.advance,
    )


def _steering(study: Study, trio: Trio, subject: Subject, untouched: Outcomes, n: int) -> list[dict]:
    direction, norm = behaviour_direction(labelled(study, trio.tokenizer))
    if direction is None:
        return []
    causal = study.config.causal
    return steering_family(subject, direction, norm, causal.doses, causal.coherence, untouched, n, causal.controls)


def behaviour_direction(data: Labelled) -> tuple[Float[Tensor, " d_model"] | None, float]:
    """(direction, norm) of the edited model's residuals.

    Direction: mean over rows inside any behaviour, off markers, minus mean over rows outside all of them; None where
    either kind of row is missing. Norm: mean norm over all rows.
    """
    h = data.rows[:, data.store.names.index(data.subject)].float()
    inside, elsewhere = data.in_any(INSIDE), data.in_all(ELSEWHERE)
    norm = float(h.norm(dim=1).mean())
    if not inside.any() or not elsewhere.any():
        return None, norm
    return h[torch.from_numpy(inside)].mean(0) - h[torch.from_numpy(elsewhere)].mean(0), norm


def _verdict(study: Study, untouched: Outcomes, base: Outcomes, arms: dict[str, Arm]) -> dict[str, Any]:
    config = study.config
    bootstrap = Bootstrap(len(untouched), config.causal.resamples, config.seed)
    verdict = conclude(untouched, base, arms, config.causal.bound, bootstrap)
    truth = None if config.checkpoints.given else TRUTHS[config.organism.kind]
    return {
        **as_json(verdict),
        "truth": truth,
        "bound": config.causal.bound,
        "problems": len(untouched),
        "seed": config.seed,
        "models": _models(study),
    }


def _models(study: Study) -> dict[str, Any]:
    """The outcomes of every model's rollouts, as the stage `traces` measured them."""
    summary = pl.read_parquet(study.folder("traces") / "summary.parquet", glob=False)
    models: dict[str, Any] = {}
    for row in summary.iter_rows(named=True):
        if row["metric"] in (*OUTCOMES, "accuracy_greedy"):
            number = {key: row[key] for key in ("estimate", "low", "high")}
            models.setdefault(row["model"], {})[row["metric"]] = (
                number if row["refused"] is None else {"refused": row["refused"]}
            )
    return models
