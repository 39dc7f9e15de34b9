"""`interp steer make`: one direction, from problems on which it is not tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from interp.causal.steering import Direction
from interp.crosscoder import Crosscoder
from interp.directions import Direction as Plain
from interp.directions import Provenance, difference_of_means, from_latents, load, probe
from interp.errors import InterpError
from interp.folders import digest, file_digest
from interp.models.hooks import check_site
from interp.models.trio import load_model
from interp.names import EDITED
from interp.stages.activation_arms import selected_latents
from interp.steering.inputs import Inputs, require
from interp.steering.positions import EARLIEST, LATEST, sides
from interp.study import Study


def run(study: Study) -> None:
    """Write `direction.safetensors`; a file that holds the same direction is kept with its evidence."""
    direction = make(study)
    path = Inputs(study).file
    if _is_there(path, direction):
        print(f"steer: {path} holds this direction already")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    direction.save(path)
    about = direction.provenance
    size = direction.norm / (about.residual_norm or float("nan"))
    rows = f", {about.rows_inside} rows against {about.rows_outside}" if about.rows_inside else ""
    print(f"steer: {path}: {about.method} at {direction.hook_name}{rows}; its norm is a dose of {size:.3g}")


def make(study: Study) -> Direction:
    """The direction that the section `steering` asks for.

    Raises:
        InterpError: a stage is missing, no labelled rows, no latents, or a file that fits no block of the model.
    """
    section = study.config.steering
    require(study, "checkpoints", "traces", "activations")
    inputs = Inputs(study)
    plain = SOURCES[section.source](inputs)
    check_site(load_model(EDITED, inputs.trio.paths[EDITED], inputs.device), Direction.of(plain).place)
    h = inputs.residual(plain.layer, plain.site)
    if not len(h):
        raise InterpError("steer: no rows on untested problems; lower steering.problems")
    about = plain.provenance
    known = replace(
        about,
        model=EDITED,
        model_hash=inputs.model_hash,
        residual_norm=float(h.norm(dim=1).mean()),
        evidence=about.evidence | {"made": inputs.made()},
    )
    return Direction(plain.vector, plain.layer, plain.site, known)


def _from_rows(make: Callable[..., Plain]) -> Callable[[Inputs], Plain]:
    """A direction from the residuals at `steering.at` against those that they are compared with."""

    def made(inputs: Inputs) -> Plain:
        first, second, positions = _sides(inputs)
        h = inputs.data.rows[:, inputs.data.store.names.index(EDITED)].float()
        about = Provenance(positions=positions, texts_hash=_texts_hash(inputs))
        at = inputs.data.store.place
        return make(h[torch.from_numpy(first)], h[torch.from_numpy(second)], layer=at.layer, site=at.name, about=about)

    return made


def _from_latents(inputs: Inputs) -> Plain:
    """Sum of latents' decoder rows in the edited model, each weighted with how much more it fires at `steering.at`."""
    study = inputs.study
    require(study, "crosscoder", "features")
    cc = Crosscoder.load(study.folder("crosscoder"), inputs.device)
    chosen = _latents(study, cc.config.n_latents)
    first, second, positions = _sides(inputs)
    slot = inputs.data.store.names.index(EDITED)
    j = torch.tensor(chosen, device=inputs.device)
    means = [
        cc.encode(inputs.data.rows[torch.from_numpy(side)].to(inputs.device), j).float().mean(0).cpu()
        for side in (first, second)
    ]
    rows = cc.decoder_in_input_units()[j, slot].detach().cpu()
    weights = (means[0] - means[1]).tolist()
    if not any(weights):
        raise InterpError(f"steer: latents {chosen} fire as much elsewhere; name others in steering.latents")
    path = study.folder("crosscoder")
    hashes = digest({p.name: file_digest(p) for p in sorted(path.glob("*.safetensors"))})
    about = Provenance(
        positions=positions,
        texts_hash=_texts_hash(inputs),
        crosscoder_hash=hashes,
        rows_inside=int(first.sum()),
        rows_outside=int(second.sum()),
    )
    at = inputs.data.store.place
    return from_latents(rows, chosen, weights, layer=at.layer, site=at.name, about=about)


def _from_file(inputs: Inputs) -> Plain:
    section = inputs.study.config.steering
    path = Path(str(section.file)).expanduser()
    found = load(path, layer=section.layer, site=section.site, d_model=inputs.trio.d_model)
    told = found.provenance.without_evidence().to_json()
    evidence = {"file": path.name, "sha256": file_digest(path), "provenance": told}
    return replace(found, provenance=replace(found.provenance, evidence=evidence))


SOURCES: dict[str, Callable[[Inputs], Plain]] = {
    "difference": _from_rows(difference_of_means),
    "probe": _from_rows(probe),
    "latents": _from_latents,
    "file": _from_file,
}
"""`steering.source` to how the direction is made."""


def _sides(inputs: Inputs) -> tuple[np.ndarray, np.ndarray, str]:
    """The two kinds of rows and what they are called.

    Raises:
        InterpError: one kind has no rows.
    """
    at, tested = inputs.study.config.steering.at, {p.id for p in inputs.tested}
    problems = set(inputs.traces["problem"].to_list()) - tested
    first, second = sides(inputs.data, inputs.traces, inputs.trio.tokenizer, at, problems)
    if not first.any() or not second.any():
        raise InterpError(
            f"steer: no labelled rows: {first.sum()} at steering.at = {at!r} and {second.sum()} to compare with, in"
            f" {len(problems)} untested problems; choose another place, or more problems"
        )
    return first, second, f"{at} {EARLIEST} to {LATEST}" if at == "before" else at


def _latents(study: Study, n_latents: int) -> list[int]:
    """The latents that are named, or the confirmed ones of any behaviour.

    Raises:
        InterpError: there are none, or one is not in the dictionary.
    """
    if (given := study.config.steering.latents) is not None:
        if odd := [j for j in given if j >= n_latents]:
            raise InterpError(f"steer: steering.latents: no latent {odd[0]}; the dictionary has 0 to {n_latents - 1}")
        return sorted(set(given))
    table = pl.read_parquet(study.folder("features") / "latents.parquet", glob=False)
    chosen = selected_latents(table, study.config.causal.max_latents)
    found = sorted({j for group in chosen.values() for j in group})
    if not found:
        raise InterpError("steer: no latent is confirmed; name some in steering.latents, or take another source")
    return found


def _texts_hash(inputs: Inputs) -> str:
    """Of the rollouts that the rows are from."""
    rest = inputs.traces.filter(~pl.col("problem").is_in([p.id for p in inputs.tested]))
    return digest(rest.select("problem", "prompt_ids", "completion_ids").rows())


def _is_there(path: Path, direction: Direction) -> bool:
    """Whether the file holds this direction, made in the same way."""
    try:
        old = Direction.load(path)
    except InterpError:
        return False
    same = torch.equal(old.vector, direction.vector) and old.hook_name == direction.hook_name
    mine, theirs = (
        (d.provenance.evidence.get("made"), d.provenance.model_hash, d.provenance.residual_norm)
        for d in (direction, old)
    )
    return same and mine == theirs
