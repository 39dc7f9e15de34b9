"""Crosscoder and peers in a world that none of them made: features of sae-lens' generator, scores of sae-lens.

    pip install -c constraints.txt -e '.[benchmark]'
    python experiments/outside_judges.py
    python experiments/outside_judges.py --only interp --seeds 0 1

The world is of the kind of SynthSAEBench (2602.14687): Zipfian firing, trees of features of which siblings exclude each
other, correlation of low rank. A feature has one direction in all models, or, drawn for a third of them whatever their
place in the trees, in one model alone. Every trainer gets the same rows, the models side by side, and is tuned as in
`planted_peers.py`, on seeds that are not reported, by the share of features that it finds, and over AuxK's weight as
well. `outside.json` holds all runs and what differs between the trainers; a killed script resumes from `runs.jsonl`.

Scores: sae-lens' MCC, uniqueness, and precision, recall and F1 of the latents as detectors of their nearest feature;
`found`, the share of features with a cosine above .9 to some latent, of all and of the exclusive ones; and precision
and recall of the claim that a latent is exclusive to a model (share of the decoder's norm above `--specific`). The last
line is this engine with decoders that stay random, under its best settings: what a score is worth that nothing was
learned for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import polars as pl
import torch
import tyro
from contestants import Contestant, Engine, Recipe, Shape, make, normalised
from jaxtyping import Float, Int
from peer_runs import FEW_LRS, RECIPES, TUNING, Entry, Runs, grid, k_starts, ranked, shared_terms, table, tune, write
from sae_lens.synthetic import (
    FeatureDictionary,
    HierarchyConfig,
    LowRankCorrelationConfig,
    SyntheticModel,
    SyntheticModelConfig,
    ZipfianFiringProbabilityConfig,
    compute_classification_metrics,
    feature_uniqueness,
    mean_correlation_coefficient,
)
from terms import show_terms, with_shared
from torch import Tensor
from torch.nn.functional import normalize

from interp.crosscoder.planted import NONE, RECOVERED, match, score_claims
from interp.features.specificity import specificity
from interp.locks import locked

BATCH, N_LATENTS, K = 256, 512, 6
"""A little more latents than features, and the active features of a row (5.6 on average) rounded up."""
K_STARTS = k_starts(N_LATENTS)
SHARES = (1.0, 0.75)
AUX_WEIGHTS = (1 / 32, 1.0)
"""Weights of AuxK that every trainer is tuned over: the customary one, and sae-lens' default."""
NULL = "interp, random decoders"
SCORES = (
    *("found", "found_exclusive", "claims_precision", "claims_recall"),
    *("mcc", "uniqueness", "precision", "recall", "f1"),
)


@dataclass(frozen=True)
class Options:
    """What the world holds and how long to train."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds that are reported; a seed fixes the world, its rows, their order and the initial weights."""
    tuning: tuple[int, ...] = TUNING
    """Seeds that settings are chosen on: all of them on the first, each entry's better half on the others."""
    steps: int = 2000
    """Updates, of 256 rows each."""
    rows: int = 1 << 17
    """Rows to train on."""
    test_rows: int = 1 << 14
    """Held-out rows, on which latents are judged as detectors."""
    n_models: int = 3
    d_model: int = 64
    features: int = 384
    """Features; a third of them, drawn by the seed, belong to one model each."""
    specific: float = 0.7
    """Share of a latent's decoder norm in one model above which it is claimed to be that model's own."""
    only: tuple[str, ...] = ()
    """Trainers whose names begin with one of these; all unless given."""
    recipes: tuple[str, ...] = RECIPES
    """Recipes that every trainer is trained by."""
    out: Path = Path("results/outside")
    """Folder of the results."""


@dataclass(frozen=True)
class World:
    """Features, and rows that they make up."""

    directions: Float[Tensor, "features models d_model"]
    owner: Int[Tensor, " features"]
    """The model that an exclusive feature belongs to; NONE for the others."""
    rows: Float[Tensor, "rows models d_model"]
    held_out: Float[Tensor, "held_out models d_model"]
    active: Float[Tensor, "held_out features"]
    """Activations of the features in the held-out rows."""


def world(seed: int, options: Options) -> World:
    """The world of a seed, from sae-lens' generator."""
    n, m, d = options.features, options.n_models, options.d_model
    generator = torch.Generator().manual_seed(seed)
    owner = torch.full((n,), NONE)
    exclusive = torch.randperm(n, generator=generator)[: n // 3]
    owner[exclusive] = torch.arange(len(exclusive)) % m
    single = normalize(torch.randn(n, 1, d, generator=generator), dim=2).expand(n, m, d)
    held = (owner == NONE)[:, None] | (owner[:, None] == torch.arange(m))
    directions = single * held[..., None]
    config = SyntheticModelConfig(
        num_features=n,
        hidden_dim=m * d,
        firing_probability=ZipfianFiringProbabilityConfig(max_prob=0.3, min_prob=0.005, exponent=0.5),
        hierarchy=HierarchyConfig(
            total_root_nodes=12,
            branching_factor=4,
            max_depth=2,
            mutually_exclusive_portion=1.0,
            compensate_probabilities=True,
            scale_children_by_parent=True,
        ),
        correlation=LowRankCorrelationConfig(rank=8, correlation_scale=0.1),
        bias=0.0,
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        features = FeatureDictionary(n, m * d, bias=False, initializer=None)
        features.feature_vectors.data = directions.flatten(1)
        made = SyntheticModel(config, feature_dict=features)
        train, test = (made.activation_generator.sample(k) for k in (options.rows, options.test_rows))
        rows, held_out = (features(f).view(-1, m, d) for f in (train, test))
    return World(directions, owner, rows, held_out, test)


@lru_cache(maxsize=1)
def prepared(seed: int, options: Options) -> tuple[World, Tensor, Tensor, Tensor]:
    """(world, normalised rows, normalised held-out rows, scale of each model) of a seed."""
    made = world(seed, options)
    x, found = normalised(made.rows)
    return made, x, ((made.held_out - found.mean) * found.scale[:, None]).flatten(1), found.scale


def measure(entry: Entry, setting: Recipe, seed: int, options: Options) -> dict[str, float]:
    """The scores of one trainer after one training."""
    made, x, held_out, scale = prepared(seed, options)
    m, d = made.directions.shape[1:]
    shape = Shape(m, d, N_LATENTS, K, BATCH, options.steps)
    recipe = Recipe(**asdict(setting) | {"seed": seed})
    is_null = entry.trainer == NULL
    contestant = Engine(shape, recipe, "float32", frozen=True) if is_null else make(entry.trainer, shape, recipe)
    order = torch.Generator().manual_seed(seed)
    for _ in range(options.steps):
        contestant.update(x[torch.randint(len(x), (BATCH,), generator=order)])
    decoder = contestant.decoder().view(-1, m, d) / scale[:, None]
    return dict(_found(decoder, made, options.specific)) | _as_detectors(contestant, decoder, held_out, made)


def _found(
    decoder: Float[Tensor, "latents models d_model"], made: World, specific: float
) -> Iterator[tuple[str, float]]:
    """What of the world a dictionary holds, and its claims of exclusive latents."""
    found = match(decoder, made)
    yield "found", found.recall
    yield "found_exclusive", float((found.best[made.owner != NONE] > RECOVERED).double().mean())
    share = specificity(decoder)
    claimed = torch.where(share.amax(1) > specific, share.argmax(1), NONE)
    score = score_claims(claimed, found, made)
    yield "claims_precision", score.precision
    yield "claims_recall", score.recall


def _as_detectors(contestant: Contestant, decoder: Tensor, held_out: Tensor, made: World) -> dict[str, float]:
    """sae-lens' scores of the decoders, and of the latents that fire as detectors of their nearest feature."""
    learned, truth = decoder.flatten(1), made.directions.flatten(1)
    f = torch.cat([contestant.latents(x) for x in held_out.split(BATCH)])
    judged = compute_classification_metrics(f, made.active, learned, truth)
    return {
        "mcc": mean_correlation_coefficient(learned, truth),
        "uniqueness": feature_uniqueness(learned, truth),
        "precision": judged.precision,
        "recall": judged.recall,
        "f1": judged.f1_score,
    }


def settings(entry: Entry, steps: int) -> list[Recipe]:
    """Settings that an entry is tuned over: the peers' are those of `peer_runs.grid`. This engine has an option of its
    own, the share of latents that start with one direction in all models, which takes the place of theirs. All have the
    weight of AuxK."""
    if not entry.trainer.startswith("interp"):
        return grid(entry, steps, K_STARTS, AUX_WEIGHTS)
    knobs = {
        "k fixed": {},
        "k fixed, AuxK": {"dead_after": 51_200},
        "k annealed, AuxK": {"dead_after": 51_200, "k_start": 24, "k_steps": steps // 2},
    }[entry.recipe]
    weights = AUX_WEIGHTS if knobs else (None,)
    return [
        Recipe(lr, steps // 20, shared_init=share, aux_weight=weight, **knobs)
        for lr, share, weight in product(FEW_LRS, SHARES, weights)
    ]


def main(options: Options) -> None:
    """Tune, measure, print, write."""
    torch.set_num_threads(1)
    trainers = [name for name in K_STARTS if not options.only or name.startswith(options.only)]
    entries = [Entry(*pair) for pair in product(trainers, options.recipes)]
    size = {name: getattr(options, name) for name in ("steps", "rows", "test_rows", "n_models", "d_model", "features")}
    with locked(options.out):
        runs = Runs(options.out / "runs.jsonl", lambda *run: measure(*run, options=options), size)
        tried = tune(entries, runs.get, lambda entry: settings(entry, options.steps), "found", options.tuning)
        best = {entry: ranked(entry, tried, "found")[0] for entry in entries}
        best |= {Entry(NULL, e.recipe): s for e, s in best.items() if e.trainer.startswith("interp")}
        found = [runs.get(entry, setting, seed) for seed in options.seeds for entry, setting in best.items()]
        shared = shared_terms(options.rows, options.steps, BATCH, N_LATENTS, K) | {
            "settings tried per recipe": f"6, 12 with AuxK; tuning seeds {', '.join(map(str, options.tuning))}",
            "AuxK's weight": "1/32 or 1, as tuned",
            "held-out latents": f"the gate of training, batches of {BATCH} rows",
        }
        terms = with_shared(shared, {name.split()[0].rstrip(",") for name in trainers})
        write(options.out / "outside.json", terms, tried, found)
    print(show_terms(terms))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=60, tbl_width_chars=260):
        print(table(found, SCORES))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
