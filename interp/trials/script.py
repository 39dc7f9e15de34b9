"""Shared by the experiment scripts: options, and the run from a config to published tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from interp.cli import prepare
from interp.config import load_config
from interp.locks import locked
from interp.models.descendants import FineTuned
from interp.trials.claims import Claim
from interp.trials.results import Results, publish
from interp.trials.run import Entry, run_trial
from interp.trials.world import World


@dataclass(frozen=True)
class TrialOptions:
    """Config, seeds, and where results go."""

    config: Path = Path("experiments/configs/organism.yaml")
    """Study config whose base, task and recipes are used."""
    seeds: tuple[int, ...] = (10, 11, 12)
    """Seeds; everything random follows them."""
    results: Path = Path("results")
    """Folder of results: tables go to the experiment's own in it, models to `store`, which experiments share."""
    figures: Path = Path("figures")
    """Folder of the figure."""


Chosen = TypeVar("Chosen", bound=TrialOptions)


def conduct(
    name: str,
    options: Chosen,
    trial: Callable[[Chosen, World, int], Mapping[str, Entry]],
    claims: Sequence[Claim],
    ahead: Callable[[Chosen, World, int], Mapping[str, FineTuned]] = lambda options, world, seed: {},
) -> None:
    """Run a trial and publish its tables and figure beside the claims.

    `trial(options, world, seed)` returns the entries of one seed. The bases, and the arms of `ahead`, which need
    nothing but a base, are trained before `trial` is called.
    """
    config = load_config(options.config)
    prepare(config)
    world, out = World(config, options.results / "store"), options.results / name
    with locked(out):
        world.make(
            {name: arm for seed in options.seeds for name, arm in ahead(options, world, seed).items()}, options.seeds
        )
        found = run_trial(world, {seed: trial(options, world, seed) for seed in options.seeds})
        results = Results(found, config.causal.bound, config.causal.resamples)
        publish(name, results, claims, out, options.figures)
