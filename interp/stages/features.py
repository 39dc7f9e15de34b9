"""Stage `features`: a catalogue of all latents, those of the behaviours and of the decision, and their contexts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.activations.store import open_store
from interp.crosscoder import Crosscoder
from interp.errors import InterpError
from interp.features.attribution import Decision, decide
from interp.features.baselines import baselines
from interp.features.carriers import Carriers, carriers
from interp.features.catalogue import behaviours, describe, per_model
from interp.features.circuit import CLASSES, Found, find
from interp.features.codes import encode_sparse
from interp.features.contexts import contexts, listed
from interp.features.contrasts import Contrast
from interp.features.evidence import SCHEMA, guest, necessity, sufficiency
from interp.features.labelled import Labelled, label_rows
from interp.features.path import HEADS, direct_path, patterns
from interp.features.path import SCHEMA as PATH
from interp.features.readout import SCHEMA as READOUT
from interp.features.readout import swap_readout
from interp.features.recurrence import SCHEMA as RECURRENCE
from interp.features.sites import refusal
from interp.models.hooks import Site
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.names import EDITED
from interp.progress import bar, console
from interp.stages.crosscoder import other_seeds
from interp.stages.decisions import Decisions, held_back
from interp.stages.reverse_control import kinds, said_by_the_edited
from interp.stages.traces import checkpoint_paths
from interp.study import Study
from interp.traces.tokens import decode, pad_id


def run(study: Study, out: Path) -> int:
    """Write `latents.parquet`, `baselines.parquet`, `deciding.parquet`, `circuit.json`, `evidence.parquet`,
    `recurrence.parquet`, `readout.parquet`, `path.parquet`, `heads.parquet`, `carriers-CLASS.safetensors` and
    `examples.parquet`; returns the number of latents."""
    config = study.config.features
    torch.set_num_threads(study.config.threads)
    trio, device = open_trio(checkpoint_paths(study)), pick_device(study.config.device)
    cc = Crosscoder.load(study.folder("crosscoder"), device)
    with bar("describing latents", 7) as progress:
        data = labelled(study, trio.tokenizer, held_back(study))
        progress.advance()
        f = encode_sparse(cc, data.rows)
        progress.advance()
        parts = [describe(cc, f, data), per_model(f, data), behaviours(f, data, config.auroc, config.q)]
        latents = pl.concat(parts, how="horizontal")
        progress.advance()
        decisions = Decisions(study, trio)
        models = {name: decisions.model(name) for name in data.store.names}
        said = said_by_the_edited(decisions, config.injected_texts)
        baselines(data, said.markers, study.config.seed).write_parquet(out / "baselines.parquet")
        seed = study.config.seed
        latents = latents.with_columns(kinds(models, cc, f, data, latents, said, config.injected_texts, seed))
        latents.write_parquet(out / "latents.parquet")
        progress.advance()
        contrasts = {contrast.name: contrast for contrast in decisions.contrasts}
        circuit = _circuit(study, trio, models, cc, data.store.place, contrasts)
        pl.concat([found.table() for found in circuit]).write_parquet(out / "deciding.parquet")
        (out / "circuit.json").write_text(json.dumps(_as_json(data.store.place, circuit), indent=1))
        progress.advance()
        pl.concat([_recurring(found) for found in circuit]).write_parquet(out / "recurrence.parquet")
        others = _carriers(models, circuit)
        for name, other in others.items():
            other.save(out / carriers_file(name))
        _evidence(study, trio, models, circuit, others, contrasts).write_parquet(out / "evidence.parquet")
        paths = [_path(trio, found, contrasts) for found in circuit]
        pl.concat([path for path, _ in paths]).write_parquet(out / "path.parquet")
        pl.concat([heads for _, heads in paths]).write_parquet(out / "heads.parquet")
        pl.concat([_readout(found, data.store.names) for found in circuit]).write_parquet(out / "readout.parquet")
        progress.advance()
        shown = dict.fromkeys([j for found in circuit for j in found.latents] + listed(latents, config.listed))
        examples = contexts(f, data, list(shown), trio.tokenizer, config.contexts)
        examples.write_parquet(out / "examples.parquet")
        progress.advance()
    return len(latents)


def labelled(study: Study, tokenizer: PreTrainedTokenizerBase, without: Collection[str] = ()) -> Labelled:
    """The study's store, its rows labelled by their place in the distilled model's behaviours; those of the problems
    `without` have no label."""
    activations = study.folder("activations")
    return label_rows(
        open_store(activations),
        pl.read_parquet(activations / "texts.parquet", glob=False),
        pl.read_parquet(study.folder("traces") / "traces.parquet", glob=False),
        tokenizer,
        EDITED,
        without,
    )


def _circuit(
    study: Study,
    trio: Trio,
    models: Mapping[str, PreTrainedModel],
    cc: Crosscoder,
    site: Site,
    contrasts: Mapping[str, Contrast],
) -> list[Found]:
    """The latents of each class of the decision, or why there are none."""
    rules = study.config.sites
    scanned = pl.read_parquet(study.folder("sites") / "sites.parquet", glob=False)

    def read(contrast: Contrast) -> Decision:
        return decide(models, EDITED, cc, site, contrast, pad_id(trio.tokenizer), rules.batch_size)

    others = {i: Crosscoder.load(folder, cc.mean.device) for i, folder in other_seeds(study.folder("crosscoder"))}
    found = []
    for name, contrast in CLASSES.items():
        refused = refusal(scanned, EDITED, contrast, site, least_auroc=rules.auroc, least_carried=rules.carried)
        found.append(find(name, contrasts[contrast], refused, read, study.config.seed, others))
        console.print(f"  {name} latents: {_said(found[-1])}", soft_wrap=True, markup=False)
    return found


def _recurring(found: Found) -> pl.DataFrame:
    table = pl.DataFrame(schema=RECURRENCE) if found.recurs is None else found.recurs
    return table.select(pl.lit(found.name).alias("class"), pl.all())


def _readout(found: Found, names: Sequence[str]) -> pl.DataFrame:
    table = pl.DataFrame(schema=READOUT)
    if found.confirming is not None and found.confirmed is not None:
        table = swap_readout(found.confirming, found.confirmed.latents, names)
    return table.select(pl.lit(found.name).alias("class"), pl.all())


def _path(trio: Trio, found: Found, contrasts: Mapping[str, Contrast]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How the difference between the sides comes to the site, and where the heads of it look in one pair; both empty
    where none was sought, or where the architecture's blocks are no sums."""
    path, heads = pl.DataFrame(schema=PATH), pl.DataFrame(schema=HEADS)
    if found.confirming is not None:
        pairs = contrasts[CLASSES[found.name]].half(choosing=False).pairs
        positive, negative = [pair.positive for pair in pairs], [pair.negative for pair in pairs]
        sides = {
            side: (ids, [decode(trio.tokenizer, [token]) for token in ids])
            for side, ids in (("positive", positive[0]), ("negative", negative[0]))
        }
        try:
            path = direct_path(found.confirming, positive, negative, sides["positive"][1])
            heads = patterns(found.confirming.positive.prefixes.model, sides, path)
        except InterpError as error:
            console.print(f"  {found.name} latents: no path to the site ({error})", soft_wrap=True, markup=False)
    named = pl.lit(found.name).alias("class"), pl.all()
    return path.select(*named), heads.select(*named)


def carriers_file(name: str) -> str:
    """File of a class's direction and heads (`Carriers.load`)."""
    return f"carriers-{name}.safetensors"


def _carriers(models: Mapping[str, PreTrainedModel], circuit: Sequence[Found]) -> dict[str, Carriers]:
    """Class to the direction and the heads that are compared with its latents, where some were sought."""
    heads = models[EDITED].config.get_text_config().num_attention_heads
    return {found.name: carriers(found.choosing, heads) for found in circuit if found.choosing is not None}


def _evidence(
    study: Study,
    trio: Trio,
    models: Mapping[str, PreTrainedModel],
    circuit: Sequence[Found],
    others: Mapping[str, Carriers],
    contrasts: Mapping[str, Contrast],
) -> pl.DataFrame:
    """What each class of the decision needs in the edited model, and whether it is enough in the others."""
    seed, rows = study.config.seed, study.config.sites.batch_size
    tables = [pl.DataFrame(schema={"class": pl.String} | SCHEMA)]
    for found in circuit:
        if found.choosing is None or found.confirming is None or found.confirmed is None:
            continue
        order, chosen = found.order, found.confirmed.latents
        pairs, guests = contrasts[CLASSES[found.name]].half(choosing=False).pairs, {}
        for name in trio.names:
            if name != EDITED:
                there = models if name in models else {name: load_model(name, trio.paths[name], models[EDITED].device)}
                slot = list(models).index(name if name in models else "base")
                sides = [pair.positive for pair in pairs], [pair.negative for pair in pairs]
                guests[name] = guest(found.confirming, there[name], slot, *sides, pad_id(trio.tokenizer), rows)
        for table in (
            necessity(found.choosing, found.confirming, order, chosen, others[found.name], seed, found.harmful),
            sufficiency(found.confirming, guests, chosen, seed),
        ):
            named = pl.lit(found.name).alias("class"), pl.all()
            tables.append(table.with_columns(model=pl.col("model").replace("", EDITED)).select(*named))
    return pl.concat(tables)


def _said(found: Found) -> str:
    if found.confirmed is None:
        return f"not sought ({found.refused})"
    return found.confirmed.why if found.latents else f"not located: {found.confirmed.why}"


def _as_json(site: Site, circuit: Sequence[Found]) -> dict[str, Any]:
    return {"site": asdict(site)} | {found.name: found.as_json() for found in circuit}
