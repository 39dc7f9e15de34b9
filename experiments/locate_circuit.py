"""Is the circuit found where one was planted, and nowhere else? Kinds of organism, and ways to look for it.

    .venv/bin/python experiments/locate_circuit.py --kinds functional coupled decorative gated plain --seeds 105

Each study runs up to its activations (or is found there); then every dictionary of `--ways`, a direction and the
attention heads are tried on each class of the decision, chosen on one half of the problems and measured on the other.
The table says what was planted and what was found; `precision` and `recall` are of the latents' firing at the ends of
steps against the generator's own labels: a check begins here (deciding), a marker comes here (wording). It is printed
and kept as `located.parquet`. Checkpoints of your own: `--config mine.yaml --kinds own`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
import tyro

from interp.activations.store import Store, open_store
from interp.cli import prepare
from interp.config import check_config, load_config
from interp.crosscoder import Crosscoder, CrosscoderConfig, TrainConfig, train_many
from interp.features.attribution import decide
from interp.features.carriers import carriers
from interp.features.circuit import CLASSES, OF_THE_DECISION, find
from interp.features.contrasts import ONSET_FORK, Contrast
from interp.features.evidence import necessity
from interp.features.selection import DAMAGE, DAMAGE_KL, QUARTER
from interp.features.sites import refusal
from interp.models.trio import load_model, open_trio, pick_device
from interp.names import EDITED
from interp.organisms.kinds import KINDS
from interp.pipeline import run_stage
from interp.stages.decisions import Decisions
from interp.stages.traces import checkpoint_paths
from interp.study import Study
from interp.traces.tokens import pad_id

Way = Literal["batch top-k", "ReLU + L1", "dedicated partitions", "random decoders"]
"""A dictionary to look with."""
STAGES = ("checkpoints", "traces", "sites", "activations")
LABELS = CLASSES | {"deciding": ONSET_FORK}
"""Class to the contrast of the generator's own labels in free text."""


@dataclass(frozen=True)
class Options:
    """Where to look."""

    kinds: tuple[str, ...] = ("functional", "coupled", "decorative", "gated", "plain")
    """Kinds of organism; `own` is the checkpoints that the config names."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each kind."""
    config: Path = Path("experiments/configs/organism.yaml")
    """Study that each of them varies."""
    out: Path = Path("results/located")
    """Folder of the studies and the table."""
    ways: tuple[Way, ...] = ("batch top-k", "ReLU + L1", "dedicated partitions", "random decoders")
    """Dictionaries that are trained; a direction and heads come with the first."""
    l1: float = 0.02
    """Weight of the L1 penalty; the table has the L0 that it leads to."""


def dictionaries(study: Study, store: Store, options: Options) -> dict[str, tuple[CrosscoderConfig, TrainConfig]]:
    """Name to shape and recipe: the study's, others of its size, and a null whose decoders stay random."""
    section = study.config.crosscoder
    shape, recipe = section.shape.between(*store.row_shape), section.recipes(study.config.seed, len(store))[0]
    relu = shape.model_copy(update={"activation": "relu", "k": None})
    own = shape.model_copy(update={"n_dedicated": shape.n_latents // 16})
    every = {
        "batch top-k": (shape, recipe),
        "ReLU + L1": (relu, recipe.model_copy(update={"sparsity": options.l1})),
        "dedicated partitions": (own, recipe),
        "random decoders": (shape, recipe.model_copy(update={"freeze_decoder": True})),
    }
    return {name: every[name] for name in options.ways}


def located(study: Study, kind: str, options: Options) -> Iterator[dict[str, Any]]:
    """One row for each class and way of looking."""
    trio, device = open_trio(checkpoint_paths(study)), pick_device(study.config.device)
    store, decisions = open_store(study.folder("activations")), Decisions(study, trio)
    models = {name: load_model(name, trio.paths[name], device) for name in store.names}
    contrasts = {contrast.name: contrast for contrast in decisions.contrasts}
    scanned = pl.read_parquet(study.folder("sites") / "sites.parquet", glob=False)
    rules, pad = study.config.sites, pad_id(trio.tokenizer)
    refused = {
        name: refusal(scanned, EDITED, contrast, store.place, least_auroc=rules.auroc, least_carried=rules.carried)
        for name, contrast in CLASSES.items()
    }
    common = {"kind": kind, "seed": study.config.seed, "site": str(store.place)}
    for name, why in refused.items():
        if why is not None:
            planted = name in KINDS[kind].planted
            yield common | {"class": name, "planted": planted, "way": "refused", "located": False, "why": why}
    if all(refused.values()):
        return
    ways = dictionaries(study, store, options)
    trained = [train_many(store, [pair], device=device)[0] for pair in ways.values()]
    for name, why in refused.items():
        if why is not None:
            continue
        row = common | {"class": name, "planted": name in KINDS[kind].planted}
        for way, done in zip(ways, trained, strict=True):
            cc, measured = done.crosscoder, {"l0": done.held_out.l0, "fve": min(done.held_out.fve)}

            def read(contrast: Contrast, cc: Crosscoder = cc) -> Any:
                return decide(models, EDITED, cc, store.place, contrast, pad, rules.batch_size)

            found = find(name, contrasts[CLASSES[name]], None, read, study.config.seed)
            yield (
                row
                | {"way": way}
                | measured
                | _found(found.as_json())
                | _against_labels(contrasts[LABELS[name]], found.latents, read)
            )
            if way == options.ways[0] and found.choosing is not None and found.confirming is not None:
                heads = models[EDITED].config.get_text_config().num_attention_heads
                assert found.confirmed is not None  # for the type checker: both halves were read
                others = carriers(found.choosing, heads)
                given = found.order, found.confirmed.latents, others, study.config.seed
                for other in necessity(found.choosing, found.confirming, *given).iter_rows(named=True):
                    if other["what"] != "latents" and other["control"] != "none":
                        yield row | _other(other)


def _found(record: Mapping[str, Any]) -> dict[str, Any]:
    controls = record.get("controls") or []
    return {
        "located": record["located"],
        "n": len(record.get("tried") or []),
        "onset": record.get("onset"),
        "left": record.get("onset_ablated"),
        "false_alarm": record.get("false_alarm_ablated"),
        "lowest_control": min(controls) if controls else None,
        "p": record.get("p"),
        "why": record["why"],
    }


def _other(row: Mapping[str, Any]) -> dict[str, Any]:
    """A direction's or heads' row of `necessity`; a claim by the same rule as of latents, for comparison."""
    gone = row["onset"] <= QUARTER * row["onset_untouched"] and row["onset"] < row["control_low"]
    alarms = row["false_alarm"] - row["false_alarm_untouched"]
    return {
        "way": f"{row['what']}, {row['edit']}",
        "located": gone and alarms <= DAMAGE and row["kl_negative"] <= DAMAGE_KL,
        "n": row["k"],
        "onset": row["onset_untouched"],
        "left": row["onset"],
        "false_alarm": row["false_alarm"],
        "lowest_control": row["control_low"],
        "p": row["p"],
        "why": f"{', '.join(row['chosen'])}; KL {row['kl_negative']:.3f} nats after the negative side",
    }


def _against_labels(contrast: Contrast, latents: list[int], read: Any) -> dict[str, float | None]:
    """Precision and recall of "one of the latents fires" at events of free text, on the confirming half; as many
    places of either label are read, so that the precision of chance is .5."""
    half = contrast.half(choosing=False)
    if not latents or not half.pairs or contrast.margin is None:
        return {"precision": None, "recall": None}
    decision = read(half)
    true, false = (int((side.f[:, latents] > 0).any(1).sum()) for side in (decision.positive, decision.negative))
    return {"precision": true / (true + false) if true + false else None, "recall": true / len(half.pairs)}


def studies(options: Options) -> Iterator[tuple[str, Study]]:
    """Each study, its stages run as far as they are needed."""
    for kind in options.kinds:
        for seed in options.seeds:
            raw: dict[str, Any] = load_config(options.config).model_dump(mode="json") | {"seed": seed}
            if kind != "own":
                raw["organism"]["kind"] = kind
            study = Study(check_config(raw, f"{kind}-{seed}"), options.out / f"{kind}-{seed}")
            prepare(study.config)
            torch.set_num_threads(study.config.threads)
            for stage in STAGES:
                run_stage(study, stage)
            yield kind, study


def main(options: Options) -> None:
    """Fill the table and print it."""
    rows = [row for kind, study in studies(options) for row in located(study, kind, options)]
    table = pl.DataFrame(rows, infer_schema_length=None)
    table.write_parquet(options.out / "located.parquet")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60, float_precision=3):
        print(table.drop("site"))
    claims = table.filter(pl.col("way").is_in([options.ways[0], "refused"]), pl.col("class").is_in(OF_THE_DECISION))
    right = claims.filter(pl.col("planted") == pl.col("located"))
    print(f"{len(right)} of {len(claims)} classes are located where planted and nowhere else ({options.ways[0]})")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
