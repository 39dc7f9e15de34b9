"""Stage `sites`: whether each model notices injected errors, and where its decision to check can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch

from interp.errors import InterpError
from interp.features.noticing import notice, summarise
from interp.features.sites import FEWEST, SCANNED, Chosen, choose_site, scan
from interp.folders import finish_unit, unit_is_finished
from interp.generation.sampling import writing
from interp.models.hooks import Site, check_site
from interp.models.sites import check_layer
from interp.models.trio import open_trio
from interp.names import EDITED
from interp.progress import bar, console
from interp.stages.decisions import Decisions
from interp.stages.traces import checkpoint_paths
from interp.statistics import bootstraps
from interp.study import Study
from interp.traces.tokens import pad_id

RESAMPLES = 10_000
SCHEMA = {
    "model": pl.String,
    "layer": pl.Int64,
    "site": pl.String,
    "contrast": pl.String,
    "auroc": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "shuffled": pl.Float64,
    "noising": pl.Float64,
    "denoising": pl.Float64,
    "fitted": pl.Int64,
    "held_out": pl.Int64,
}


def run(study: Study, out: Path) -> int:
    """Write `injected.parquet` (one row per model and injected error), `noticed.parquet` (its summary),
    `sites.parquet` (one row per model, contrast and site) and `site.json` (the site that is read, and why); returns
    the number of scanned sites.

    Each model is a unit: an interrupted run resumes at the first model that is not done.
    """
    torch.set_num_threads(study.config.threads)
    inputs = Decisions(study, open_trio(checkpoint_paths(study)))
    with bar("reading decisions", 2 * len(inputs.trio.names)) as progress:
        for name in inputs.trio.names:
            if unit_is_finished(out, name):
                progress.advance(2)
                continue
            _read_model(inputs, name, out, progress.advance)
            finish_unit(out, name, [_file("injected", name), _file("sites", name)])
    injected, table = (
        pl.concat([pl.read_parquet(out / _file(kind, name), glob=False) for name in inputs.trio.names])
        for kind in ("injected", "sites")
    )
    injected.write_parquet(out / "injected.parquet")
    summarise(injected, bootstraps(RESAMPLES, study.config.seed)).write_parquet(out / "noticed.parquet")
    table.write_parquet(out / "sites.parquet")
    (out / "site.json").write_text(json.dumps(_decided(inputs, table), indent=1))
    return len(table)


def _file(kind: str, name: str) -> str:
    """Of one model, in the scratch folder."""
    return f".{kind}-{name}.parquet"


def _read_model(inputs: Decisions, name: str, out: Path, on_done: Callable[[int], None]) -> None:
    """Write both tables of one model."""
    config, tokenizer = inputs.study.config, inputs.trio.tokenizers[name]
    model = inputs.model(name)
    traces, rows = config.traces, config.sites.batch_size
    how = writing(tokenizer, traces.max_new_tokens, traces.temperature, config.seed, inputs.trio.end_ids[name])
    noticed = notice(name, model, tokenizer, inputs.injected(name), inputs.judge, how, inputs.margin, rows)
    noticed.write_parquet(out / _file("injected", name))
    on_done(1)
    sites = _sites(model, inputs.trio.n_layers)
    pad = pad_id(inputs.trio.tokenizer)
    found = [
        row
        for contrast in inputs.contrasts
        if contrast.smaller_half() >= FEWEST
        for row in scan(name, model, contrast, sites, pad, config.seed, rows)
    ]
    pl.DataFrame(found, schema=SCHEMA).write_parquet(out / _file("sites", name))
    on_done(1)


def _sites(model: Any, n_layers: int) -> list[Site]:
    """Every site that the architecture has, in the order of computation."""
    found = []
    for site in (Site(layer, name) for layer in range(n_layers) for name in SCANNED):
        try:
            check_site(model, site)
        except InterpError:  # blocks that do not add what attention and MLP return have only some of the sites
            continue
        found.append(site)
    return found


def _decided(inputs: Decisions, table: pl.DataFrame) -> dict[str, Any]:
    """Content of `site.json`: the site that the scan chooses, the one that is read, and why."""
    section, rules = inputs.study.config.activations, inputs.study.config.sites
    allowed = table if section.site == "auto" else table.filter(pl.col("site") == section.site)
    chosen = choose_site(allowed, EDITED, least_auroc=rules.auroc, least_carried=rules.carried)
    usual = "resid_post" if section.site == "auto" else section.site
    by_hand = Site(check_layer(section.layer, inputs.trio.n_layers), usual)
    read = chosen.site if section.layer == "auto" and chosen.site is not None else by_hand
    console.print(f"  {_said(chosen, read)}", soft_wrap=True, markup=False)
    return {
        "read": asdict(read),
        "chosen": None if chosen.site is None else asdict(chosen.site),
        "contrast": chosen.contrast,
        "why": chosen.why,
        "margin": None if inputs.margin is None else _margin(inputs),
        "pairs": {contrast.name: contrast.smaller_half() for contrast in inputs.contrasts},
    }


def _said(chosen: Chosen, read: Site) -> str:
    if chosen.site is None:
        return f"no site decides ({chosen.why}); residuals are read at {read}"
    if chosen.site == read:
        return chosen.why
    return f"{chosen.why}; residuals are read at {read}, as activations.layer says: auto would read them there"


def _margin(inputs: Decisions) -> dict[str, Any]:
    """The deciding tokens as the tokenizer spells them, and how many of the places they follow."""
    margin, spell = inputs.margin, inputs.trio.tokenizer.convert_ids_to_tokens
    assert margin is not None  # for the type checker: the caller looked
    return {
        "onset": spell(list(margin.positive)),
        "other": spell(list(margin.negative)),
        "onset_share": margin.positive_share,
        "other_share": margin.negative_share,
    }
