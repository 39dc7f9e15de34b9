"""Stage `causal`: edits of the models with matched controls, their effects, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch

from interp.causal.arms import Arm
from interp.causal.checks import failures, mends_nothing
from interp.causal.circuit_verdict import circuit_json, circuit_runs, text_runs
from interp.causal.coherence import perplexity
from interp.causal.effects import effects, table
from interp.causal.marker_patching import Patching, components_of, patching_rows, run_patching
from interp.causal.pairs import make_pairs
from interp.causal.patching import open_bridge
from interp.causal.run import cells_of
from interp.causal.run import run as run_arms
from interp.causal.runs import UNTOUCHED, Runs
from interp.causal.setting import Setting
from interp.causal.study_arms import Sizes, text_arms
from interp.causal.verdict import Verdict, arms_json, as_json, conclude
from interp.config import StudyConfig
from interp.folders import commit, read_manifest
from interp.generation.budget import free_budget, rows_that_fit, shared_out
from interp.models.revision import revision
from interp.models.sites import patched_layers
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.names import EDITED, OUTCOMES
from interp.organisms.kinds import KINDS
from interp.progress import Bar, bar, console
from interp.stages.activation_arms import activation_arms
from interp.stages.problems import task_of, test_problems
from interp.stages.traces import checkpoint_paths, prompts_of
from interp.study import Study
from interp.tasks.base import Problem
from interp.traces.lexicon import load_lexicon
from interp.traces.unlisted import StyleWords, style_words
from interp.workers import Spread

JUDGED = (EDITED, "base", "control")
"""Models on which the removals of the verdict are run, as far as they are there."""
PATCHED = 200
"""Steps of the progress bar for one patched component; a completion is one step."""


def run(study: Study, out: Path) -> int:
    """Write `runs/`, `patches/`, `effects.parquet`, `directions/` and `verdict.json`; returns the number of effects."""
    config = study.config
    torch.set_num_threads(config.threads)
    trio, device = open_trio(checkpoint_paths(study)), pick_device(config.device)
    setting = _setting(config, trio, device)
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet", glob=False)
    words = _style_words(traces, setting, trio)
    arms = _text_arms(config, setting, traces, words) + activation_arms(study, trio, device, out)
    patching = _patching(config, trio, setting, traces)
    total = sum(len(cell.numbers) for cell in cells_of(arms, setting))
    total += 0 if patching is None else PATCHED * len(patching.units)
    with setting.crew() as spread, bar("editing", total) as progress:
        earlier = _earlier(study, "patches")
        patched = _patched(config, trio, patching, device, out / "patches", earlier, spread, progress)
        earlier = _earlier(study, "runs")
        runs = run_arms(setting, arms, out / "runs", earlier=earlier, spread=spread, on_done=progress.advance)
    coherence = _coherence(runs, setting)
    none = mends_nothing(pl.read_parquet(study.folder("sites") / "noticed.parquet", glob=False))
    verdict, circuit = (
        _conclude(config, part, coherence, words, none=none) for part in (text_runs(runs), circuit_runs(runs))
    )
    failed = {name: failures(reading.checks) for name, reading in {**circuit.arms, **verdict.arms}.items()}
    rows = effects(
        runs,
        resamples=config.causal.resamples,
        seed=config.seed,
        coherence=coherence,
        guard=config.causal.coherence,
        failed=failed,
    )
    table([*patched, *rows]).write_parquet(out / "effects.parquet")
    located = json.loads((study.folder("features") / "circuit.json").read_text())
    through = circuit_json(rows, located, verdict, circuit)
    console.print(f"  verdict by text: {verdict.verdict}; through the circuit: {through['verdict']}", soft_wrap=True)
    written = _written(study, verdict, words, coherence, none=none) | {
        "circuit": through | {"arms": arms_json(circuit)}
    }
    (out / "verdict.json").write_text(json.dumps(written, indent=1))
    return len(rows) + len(patched)


def _earlier(study: Study, name: str) -> list[Path]:
    """The runs or patches of the finished stage that is about to be replaced, if this version of the code made them; a
    checkout with local changes has no version."""
    folder, version = study.folder("causal"), commit()
    manifest = read_manifest(folder) if folder.exists() else None
    if manifest is None or version is None or version.endswith("-dirty") or manifest["commit"] != version:
        return []
    return [folder / name]


def _setting(config: StudyConfig, trio: Trio, device: torch.device) -> Setting:
    return setting_of(config, trio, device, test_problems(config)[: config.causal.problems])


def setting_of(config: StudyConfig, trio: Trio, device: torch.device, problems: list[Problem]) -> Setting:
    """All models of a study on these problems, written as the study writes, in batches that fit into the memory."""
    models = {name: load_model(name, path, device) for name, path in trio.paths.items()}
    prompts = {name: prompts_of(trio, name, problems, config.traces.chat_template) for name in trio.names}
    longest = max(len(ids) for name in models for ids in trio.tokenizers[name](prompts[name])["input_ids"])
    main, wanted = models[EDITED], min(config.causal.workers, config.threads) if device.type == "cpu" else 1
    copies = sum(weight.nbytes for model in models.values() for weight in model.parameters())
    workers, budget = shared_out(free_budget(device), wanted, copies)
    threads = config.threads // wanted  # whatever the memory says: it shall not decide about the last bits
    if workers < wanted:
        console.print(
            f"  memory: {workers} of {wanted} processes can have models of their own, with {threads} threads each; "
            "causal.workers 1 gives one process all threads",
            soft_wrap=True,
        )
    tokens = longest + config.traces.max_new_tokens
    fit = rows_that_fit(main.config, tokens, budget, main.dtype, models=len(models))
    return Setting(
        models=models,
        tokenizers=trio.tokenizers,
        end_ids=trio.end_ids,
        prompts=prompts,
        problems=problems,
        task=task_of(config),
        lexicon=load_lexicon(config.traces.lexicon),
        max_new_tokens=config.traces.max_new_tokens,
        temperature=config.traces.temperature,
        seed=config.seed,
        names={name: revision(path) for name, path in trio.paths.items()},
        rows=min(config.causal.batch_size, fit),
        paths=trio.paths,
        workers=workers,
        threads=threads,
    )


def _style_words(traces: pl.DataFrame, setting: Setting, trio: Trio) -> StyleWords:
    """The words that set the distilled model apart, from the first half of the problems; what removes them is run on
    the second."""
    chosen = [p.id for p in setting.problems[: _first(setting)]]
    others = [name for name in JUDGED[1:] if name in trio.names]
    found = style_words(traces.filter(pl.col("problem").is_in(chosen)), setting.lexicon, EDITED, others)
    if found.coverage < 0.5:
        named = ", ".join(word.word for word in found.unlisted[:6])
        console.print(
            f"  lexicon {setting.lexicon.name}: its markers cover {found.coverage:.0%} of what sets the distilled "
            f"model's words apart; the strongest others: {named}; put them into the lexicon",
            soft_wrap=True,
            markup=False,
        )
    return found


def _first(setting: Setting) -> int:
    return len(setting.problems) // 2


def _text_arms(config: StudyConfig, setting: Setting, traces: pl.DataFrame, words: StyleWords) -> list[Arm]:
    ids = {p.id for p in setting.problems}
    mine = traces.filter(pl.col("model") == EDITED, pl.col("problem").is_in(ids))
    return text_arms(
        setting.lexicon,
        setting.vocabularies[EDITED],
        tuple(name for name in JUDGED if name in setting.models),
        mine["text"].to_list(),
        mine["prompt"].to_list(),
        [word.word for word in words.unlisted],
        _first(setting),
        Sizes(config.causal.controls, config.causal.control_problems, config.seed),
    )


def _patching(config: StudyConfig, trio: Trio, setting: Setting, traces: pl.DataFrame) -> Patching | None:
    """The patches at the markers of the distilled model's traces, None where there is too little to patch."""
    causal = config.causal
    pairs = make_pairs(traces.filter(pl.col("model") == EDITED), trio.tokenizer, setting.lexicon, causal.pairs)
    layers = patched_layers(causal.patch_layers, trio.n_layers)
    if len(pairs) < 8 or not layers:
        return None
    heads = setting.models[EDITED].config.get_text_config().num_attention_heads
    components = components_of(layers, causal.patch_sites, heads)
    return Patching(EDITED, setting.names[EDITED], tuple(pairs), components, causal.forced_controls, config.seed)


def _patched(
    config: StudyConfig,
    trio: Trio,
    what: Patching | None,
    device: torch.device,
    out: Path,
    earlier: list[Path],
    spread: Spread,
    progress: Bar,
) -> list[dict]:
    if what is None:
        return []
    path = trio.paths[EDITED]
    table = run_patching(
        # The bridge changes the model it wraps, so it gets one of its own.
        lambda: open_bridge(path, load_model(EDITED, path, device), trio.tokenizer),
        what,
        out,
        earlier=earlier,
        spread=spread,
        on_done=lambda: progress.advance(PATCHED),
    )
    return patching_rows(table, config.causal.resamples, config.seed)


def _coherence(runs: Runs, setting: Setting) -> dict[str, float]:
    """Each arm's perplexity under the untouched model, over that of the untouched texts of the same problems; not of
    arms that force words, which are improbable on purpose."""
    found: dict[str, float] = {}
    plain: dict[tuple[int, ...], float] = {}
    model = setting.models[EDITED]
    for name, about in runs.arms.items():
        if about["forced"]:
            continue
        rows = runs.rows(name)
        numbers = tuple(rows["number"].to_list())
        if numbers not in plain:
            before = runs.rows(UNTOUCHED).filter(pl.col("number").is_in(numbers))
            plain[numbers] = perplexity(model, before["prompt_ids"].to_list(), before["completion_ids"].to_list())
        edited = perplexity(model, rows["prompt_ids"].to_list(), rows["completion_ids"].to_list())
        found[name] = edited / plain[numbers]
    return found


def _conclude(
    config: StudyConfig, runs: Runs, coherence: Mapping[str, float], words: StyleWords, *, none: bool
) -> Verdict:
    return conclude(
        runs,
        bound=config.causal.bound,
        resamples=config.causal.resamples,
        seed=config.seed,
        coherence=coherence,
        guard=config.causal.coherence,
        found=[word.word for word in words.unlisted],
        coverage=words.coverage,
        mends_nothing=none,
    )


def _written(
    study: Study, verdict: Verdict, words: StyleWords, coherence: Mapping[str, float], *, none: bool
) -> dict[str, Any]:
    config = study.config
    truth = None if config.checkpoints.given else KINDS[config.organism.kind].truth
    return {
        **as_json(verdict),
        "truth": truth,
        "problems": min(config.causal.problems, config.traces.problems),
        "seed": config.seed,
        "unlisted": [{"word": w.word, "z": w.z, "problems": w.problems} for w in words.unlisted],
        "coverage": words.coverage,
        "mends_nothing": none,
        "perplexity": dict(coherence),
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
