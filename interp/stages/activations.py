"""Stage `activations`: the residuals of base, distilled and zero-RL on one token stream, the rollouts of all three."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Int, UInt8

from interp.activations.harvest import Harvest, moved
from interp.activations.split import held_out_problems
from interp.activations.store import BYTES, StoreWriter, row_hashes
from interp.activations.texts import Text, distinct, first_position, kept_positions, mixed, write_texts
from interp.config import StudyConfig
from interp.dictionary_sections import ActivationsConfig
from interp.errors import InterpError
from interp.folders import refuse_if_short
from interp.models.hooks import Site
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.names import COMPARED, EDITED
from interp.progress import bar, console
from interp.stages.decisions import site_of
from interp.stages.problems import task_of
from interp.stages.traces import checkpoint_paths
from interp.study import Study
from interp.traces.tokens import encode, pad_id


@dataclass(frozen=True)
class Stream:
    """The token stream: every text, and what is read of it."""

    texts: list[Text]
    written_by: list[UInt8[np.ndarray, " _"]]
    """Per text and position a bitmask of the models that wrote the prefix (bit m: number m of COMPARED)."""
    kept: list[Bool[np.ndarray, " _"]]
    """Per text and position, whether its residuals are read."""
    held_out: frozenset[str]
    """Problems whose rows are held out."""

    @property
    def rows(self) -> int:
        return sum(int(kept.sum()) for kept in self.kept)


def run(study: Study, out: Path) -> int:
    """Write the store, one more in a folder of its own for each site of `activations.also`, `texts.parquet`,
    `stream.json` (its counts) and `moved.json` (the distance of each model's residuals from the base's); returns the
    number of rows."""
    config = study.config
    torch.set_num_threads(config.threads)
    trio, device = open_trio(checkpoint_paths(study)), pick_device(config.device)
    site = site_of(study)
    stream = token_stream(study, trio)
    also = [Site(layer, site.name) for layer in sorted({*config.activations.also} - {site.layer})]
    bytes_of_one = stream.rows * len(COMPARED) * trio.d_model * BYTES
    refuse_if_short(out, bytes_of_one * (1 + len(also)), "the store of residuals")
    source = Harvest(
        {name: load_model(name, trio.paths[name], device) for name in COMPARED},
        stream.texts,
        site,
        pad_id(trio.tokenizer),
        config.activations.batch_size,
        config.activations.skip_first,
        trio.masked_ids,
        also,
    )
    writers = {at: _writer(out if at == site else out / str(at), at, config.activations) for at in (site, *also)}
    places, moves, hashes = [], [], []
    with bar("reading residuals", len(stream.texts)) as progress:
        for batch in source.batches():
            for at, rows in {site: batch.resid, **batch.also}.items():
                writers[at].add(rows)
            moves.append(moved(batch.resid))
            hashes.append(row_hashes(batch.resid))
            places.append(torch.stack([batch.text, batch.position, batch.token]))
            progress.to(int(batch.text.max()) + 1)
    index = _index(torch.cat(places, dim=1).numpy(), stream)
    for writer in writers.values():
        writer.close(index)
    write_texts(stream.texts, out / "texts.parquet")
    mean = torch.cat(moves).mean(0).tolist()
    (out / "moved.json").write_text(json.dumps(dict(zip(COMPARED, mean, strict=True))))
    counts = _counts(stream, index, torch.cat(hashes).numpy(), config, trio)
    (out / "stream.json").write_text(json.dumps(counts, indent=1))
    console.print(
        "  {rows:,} rows of {problems:,} problems, {held_out_rows:,} of {held_out_problems:,} held out; "
        "{repeats:,} repeated prefixes left out, {exact_duplicates:.2%} of the rows equal another".format(**counts),
        soft_wrap=True,
    )
    return len(index)


def _writer(folder: Path, site: Site, section: ActivationsConfig) -> StoreWriter:
    folder.mkdir(exist_ok=True)
    return StoreWriter(folder, list(COMPARED), str(site), section.shard_rows)


def token_stream(study: Study, trio: Trio) -> Stream:
    """Every model's rollouts and the traces that came with the user's problems, each prefix once, in mixed order.

    Raises:
        InterpError: no position of them may be read, or those of one problem only.
    """
    config = study.config
    rollouts = pl.read_parquet(study.folder("traces") / "traces.parquet", glob=False)
    rollouts = rollouts.filter(pl.col("model").is_in(COMPARED))
    asked = _prompts(rollouts)
    written = rollouts.iter_rows(named=True)
    texts = [_text(row["completion_ids"], row["model"], row["problem"], asked) for row in written]
    texts += given_traces(config, trio, asked)
    # The edited model's first: where another wrote the same, the row is in the text whose behaviours are labelled.
    texts, written_by = distinct(sorted(texts, key=lambda text: text.model != EDITED), COMPARED)
    order = mixed(len(texts), config.seed)
    texts, written_by = [texts[i] for i in order], [written_by[i] for i in order]
    kept = [kept_positions(text, config.activations.skip_first, trio.masked_ids) for text in texts]
    _refuse_no_rows(config, trio, texts, kept)
    rows = Counter[str]()
    for text, positions in zip(texts, kept, strict=True):
        rows[text.problem] += int(positions.sum())
    return Stream(texts, written_by, kept, held_out_problems(+rows, config.seed))


def _prompts(rollouts: pl.DataFrame) -> dict[str, list[list[int]]]:
    """Problem to the prompt ids of every model of COMPARED, in this order."""
    ids = {(row["problem"], row["model"]): row["prompt_ids"] for row in rollouts.iter_rows(named=True)}
    return {problem: [ids[problem, name] for name in COMPARED] for problem in rollouts["problem"].unique()}


def _text(completion: list[int], model: str, problem: str, asked: dict[str, list[list[int]]]) -> Text:
    """A completion after the prompt that each model knows."""
    own, prompts = asked[problem][COMPARED.index(EDITED)], asked[problem]
    differ = any(prompt != own for prompt in prompts)
    return Text([*own, *completion], model, problem, len(own), prompts if differ else ())


def given_traces(config: StudyConfig, trio: Trio, asked: dict[str, list[list[int]]]) -> list[Text]:
    """The `trace` column of the user's file; empty where there is none."""
    if config.traces.file is None:
        return []
    problems = task_of(config).problems(config.traces.problems, config.seed, "test")
    return [_text(encode(trio.tokenizer, p.trace), "given", p.id, asked) for p in problems if p.trace is not None]


def _refuse_no_rows(
    config: StudyConfig, trio: Trio, texts: Sequence[Text], kept: Sequence[Bool[np.ndarray, " _"]]
) -> None:
    """Refuse a stream of which nothing may be read, before any model is loaded."""
    if any(positions.any() for positions in kept):
        return
    skip = config.activations.skip_first
    masked = Counter(token for text in texts for token in text.ids[first_position(text, skip) :])
    if masked:
        token, n = masked.most_common(1)[0]
        raise InterpError(
            f"activations: no row is left: all {masked.total()} tokens mean different things in the models, most often "
            f"id {token} ({trio.pieces(token)}, {n} times); give checkpoints whose tokenizers agree on it"
        )
    raise InterpError(
        f"activations.skip_first = {skip}: no row is left, the longest of {len(texts)} texts has "
        f"{max(len(text.ids) for text in texts)} tokens; lower it, or give longer texts"
    )


def _index(places: Int[np.ndarray, "3 rows"], stream: Stream) -> pl.DataFrame:
    """The store's index, one row per row of the store, from its texts' numbers, positions and tokens."""
    text, position, token = places
    starts = np.cumsum([0, *map(len, stream.written_by)])
    held_out = np.array([text.problem in stream.held_out for text in stream.texts])
    return pl.DataFrame(
        {
            "text": text,
            "position": position,
            "token": token,
            "written_by": np.concatenate(stream.written_by)[starts[text] + position],
            "held_out": held_out[text],
        }
    )


def _counts(stream: Stream, index: pl.DataFrame, hashes: np.ndarray, config: StudyConfig, trio: Trio) -> dict[str, Any]:
    """What the token stream holds, by name."""
    skip, rows = config.activations.skip_first, len(index)
    again = [kept_positions(replace(text, fresh=0), skip, trio.masked_ids) for text in stream.texts]
    unmasked = sum(int(kept_positions(text, skip, ()).sum()) for text in stream.texts)
    return {
        "texts": len(stream.texts),
        "problems": len({text.problem for text, kept in zip(stream.texts, stream.kept, strict=True) if kept.any()}),
        "held_out_problems": len(stream.held_out),
        "rows": rows,
        "held_out_rows": int(index["held_out"].sum()),
        "repeats": sum(int(kept.sum()) for kept in again) - rows,  # rows whose prefix an earlier text has
        "masked": unmasked - rows,
        "exact_duplicates": 1 - len(np.unique(hashes)) / rows,  # share of rows bit-identical to an earlier one
    }
