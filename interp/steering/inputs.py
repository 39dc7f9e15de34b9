"""What steering reads of a study: its stages' folders, its test problems, and the direction that was made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.store import open_store
from interp.causal.setting import Setting
from interp.causal.steering import Direction
from interp.errors import InterpError, first_difference
from interp.features.labelled import Labelled
from interp.folders import read_manifest, verify
from interp.models.hooks import Site, read_sites
from interp.models.revision import revision
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.names import EDITED
from interp.pipeline import BY_NAME, stage_config
from interp.stages.causal import setting_of
from interp.stages.features import labelled
from interp.stages.problems import test_problems
from interp.stages.traces import checkpoint_paths
from interp.study import Study
from interp.tasks.base import Problem

MACHINE = ("device", "threads")
"""Parts of a stage's config that another machine may have otherwise."""
READ_TEXTS = 64
"""Texts read for the residual at a site that the store does not hold."""
MADE = ("source", "at", "latents", "file", "layer", "site")
"""Fields of the section on which the direction depends."""


def require(study: Study, *stages: str) -> None:
    """Refuse a study whose stages are missing, damaged, or of another config.

    Raises:
        InterpError: the first such stage is named.
    """
    for name in stages:
        folder = study.folder(name)
        manifest = read_manifest(folder)
        if manifest is None:
            raise InterpError(f"steer: {folder} is not there; run `interp {name}` first")
        verify(folder)
        wanted = stage_config(BY_NAME[name], study.config)
        old, new = ({k: v for k, v in c.items() if k not in MACHINE} for c in (manifest["config"], wanted))
        if (found := first_difference(old, new)) is not None:
            key, was, now = found
            raise InterpError(f"steer: {folder} was written with {key} = {was!r}, now {now!r}; give it the same config")


@dataclass(frozen=True)
class Inputs:
    """A study under steering."""

    study: Study

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.study.folder("steering")

    @property
    def file(self) -> Path:
        """Of the direction."""
        return self.folder / "direction.safetensors"

    @cached_property
    def trio(self) -> Trio:
        return open_trio(checkpoint_paths(self.study))

    @cached_property
    def device(self) -> torch.device:
        return pick_device(self.study.config.device)

    @cached_property
    def data(self) -> Labelled:
        """The store's rows with their labels."""
        return labelled(self.study, self.trio.tokenizer)

    @cached_property
    def traces(self) -> pl.DataFrame:
        """The edited model's rollouts."""
        table = pl.read_parquet(self.study.folder("traces") / "traces.parquet", glob=False)
        return table.filter(pl.col("model") == EDITED)

    @cached_property
    def tested(self) -> list[Problem]:
        """Problems that the direction is tested on: the first ones, at most half; it is made on the others."""
        problems = test_problems(self.study.config)
        return problems[: min(self.study.config.steering.problems, len(problems) // 2)]

    @cached_property
    def setting(self) -> Setting:
        """All models on the tested problems."""
        return setting_of(self.study.config, self.trio, self.device, self.tested)

    def made(self) -> dict[str, Any]:
        """What the direction depends on beside the activations, as its evidence holds it."""
        section = self.study.config.steering.model_dump(mode="json", include=set(MADE))
        return section | {"tested": len(self.tested), "store": open_store(self.study.folder("activations")).sha256}

    def direction(self) -> Direction:
        """The direction that `interp steer make` wrote.

        Raises:
            InterpError: there is none, it was made with another config or other activations, or of another model.
        """
        if not self.file.is_file():
            raise InterpError(f"{self.file}: no direction; run `interp steer make` first")
        found = Direction.load(self.file, d_model=self.trio.d_model)
        old, new = found.provenance.evidence.get("made"), self.made()
        if (differs := first_difference(old, new)) is not None:
            key, was, now = differs
            raise InterpError(
                f"{self.file}: made with {_short(key, was)}, now {_short(key, now)}; run `interp steer make` again"
            )
        if found.provenance.model_hash != self.model_hash:
            raise InterpError(f"{self.file}: the distilled model has changed since; run `interp steer make` again")
        return found

    @property
    def model_hash(self) -> str:
        """Of the edited model's files."""
        return revision(self.trio.paths[EDITED])

    def rows_of_making(self) -> Tensor:
        """Which rows of the store stand in the edited model's rollouts of untested problems (bool, one per row)."""
        tested = pl.Series(sorted({p.id for p in self.tested}))
        untested = ~pl.Series(self.data.row_problem).is_in(tested).to_numpy()
        return torch.from_numpy(self.data.written_by(EDITED) & untested)

    def residual(self, layer: int, site: str) -> Float[Tensor, "rows d_model"]:
        """The edited model's residuals on untested problems at a site: the store's where it holds the site, else read
        from the model on its first rollouts.

        Raises:
            InterpError: the model has no such block, or no problem is left.
        """
        if Site(layer, site) == self.data.store.place:
            return self.data.rows[self.rows_of_making(), self.data.store.names.index(EDITED)].float()
        tested, skip = [p.id for p in self.tested], self.study.config.activations.skip_first
        rest = self.traces.filter(~pl.col("problem").is_in(tested)).head(READ_TEXTS)
        model, where = load_model(EDITED, self.trio.paths[EDITED], self.device), Site(layer, site)
        rows = []
        for row in rest.iter_rows(named=True):
            ids = torch.tensor([[*row["prompt_ids"], *row["completion_ids"]]], device=self.device)
            with torch.inference_mode():
                rows.append(read_sites(model, (where,), input_ids=ids)[where][0, skip:].float().cpu())
        if not rows:
            raise InterpError("steer: no untested rollouts; lower steering.problems")
        return torch.cat(rows)


def _short(key: str, value: Any) -> str:
    return f"other {key.split('.')[0]}" if key.startswith("store") else f"steering.{key} = {value!r}"
