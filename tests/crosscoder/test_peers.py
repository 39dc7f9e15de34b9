"""The comparison with peers: equal tuning, exact dead shares, equal schedules, and a complete list of terms."""

from dataclasses import replace

import pytest
import torch

from tests.scripts import load_script

contestants = load_script("contestants")
terms = load_script("terms")
peer_runs = load_script("peer_runs")
planted_peers = load_script("planted_peers")
benchmark = load_script("benchmark_crosscoder")

SHAPE = contestants.Shape(n_models=2, d_model=8, n_latents=32, k=2, batch=64, steps=40)
PACKAGES = {
    "interp, fp32": "interp",
    "sae-lens BatchTopK, fp32": "sae_lens",
    "dictionary-learning BatchTopK, fp32": "dictionary_learning",
    "sparsify TopK, fp32": "sparsify",
}


@pytest.fixture(params=PACKAGES)
def trainer(request):
    pytest.importorskip(PACKAGES[request.param])
    return request.param


def rows(n=SHAPE.batch):
    return torch.randn(n, SHAPE.width, generator=torch.Generator().manual_seed(0))


def test_every_trainer_and_recipe_is_tuned_over_as_many_different_settings():
    entries = [peer_runs.Entry(t, r) for t in planted_peers.K_STARTS for r in peer_runs.RECIPES]
    assert {len(set(planted_peers.grid(entry, 2000, planted_peers.K_STARTS))) for entry in entries} == {6}


def test_weights_of_auxk_multiply_the_settings_of_recipes_that_use_it():
    starts = planted_peers.K_STARTS
    for entry in (peer_runs.Entry(t, r) for t in starts for r in peer_runs.RECIPES):
        weighted = peer_runs.grid(entry, 2000, starts, (1 / 32, 1.0))
        assert len(set(weighted)) == (12 if "AuxK" in entry.recipe else 6)
        assert {s.aux_weight for s in weighted} == ({1 / 32, 1.0} if "AuxK" in entry.recipe else {None})
        own = [replace(s, aux_weight=None) for s in weighted]
        assert set(own) == set(peer_runs.grid(entry, 2000, starts))


def test_recipes_differ_in_what_they_are_named_after():
    for trainer in planted_peers.K_STARTS:
        plain, auxk, annealed = (
            planted_peers.grid(peer_runs.Entry(trainer, r), 2000, planted_peers.K_STARTS) for r in peer_runs.RECIPES
        )
        assert {(s.dead_after, s.k_start) for s in plain} == {(None, None)}
        assert {s.k_start for s in auxk} == {None} and all(s.dead_after for s in auxk)
        assert all(s.dead_after and s.k_start > planted_peers.K and s.k_steps == 1000 for s in annealed)


def test_tuning_seeds_are_not_reported():
    assert not set(peer_runs.TUNING) & set(planted_peers.Options().seeds)


def test_tuning_runs_all_settings_once_and_the_better_half_again():
    entries = [peer_runs.Entry("interp, fp32", r) for r in peer_runs.RECIPES]
    asked = []

    def get(entry, setting, seed):
        asked.append((entry, setting, seed))
        # On the first seed the higher learning rate is better, on the second the lower one, and by more.
        return peer_runs.Run(entry, setting, seed, {"recall": setting.lr if seed == 100 else -10 * setting.lr})

    settings = lambda entry: peer_runs.grid(entry, 2000, planted_peers.K_STARTS)  # noqa: E731
    tried = peer_runs.tune(entries, get, settings, "recall")
    for entry in entries:
        first, second = ({s for e, s, seed in asked if (e, seed) == (entry, own)} for own in peer_runs.TUNING)
        assert first == set(planted_peers.grid(entry, 2000, planted_peers.K_STARTS))
        assert len(second) == 3 and min(s.lr for s in second) >= max(s.lr for s in first - second)
        assert peer_runs.ranked(entry, tried, "recall")[0].lr == min(s.lr for s in second)
    tried = peer_runs.tune(entries, get, settings, "recall", (100,))
    assert [(run.entry, run.setting, run.seed) for run in tried] == [(e, s, 100) for e in entries for s in settings(e)]


def test_a_finished_run_is_not_made_again(tmp_path):
    made, path = [], tmp_path / "deep" / "runs.jsonl"
    entry, setting = peer_runs.Entry("interp, fp32", "k fixed"), contestants.Recipe(1e-3, 100)

    def get(seed, steps=2000):
        return peer_runs.Runs(path, lambda *run: made.append(run) or {"recall": 0.5}, {"steps": steps}).get(
            entry, setting, seed
        )

    runs = [get(seed) for seed in (0, 1, 0)]
    assert (len(made), runs[0], runs[2].scores) == (2, runs[2], {"recall": 0.5})
    get(0, steps=1000)
    assert len(made) == 3


def test_terms_are_equal_only_where_all_trainers_share_the_value():
    equal, different = terms.split_terms({"a": {"k": "6", "gate": "x"}, "b": {"k": "6", "gate": "y", "only": "z"}})
    assert equal == {"k": "6"}
    assert different == {"gate": {"a": "x", "b": "y"}, "only": {"a": "none", "b": "z"}}


def test_all_trainers_state_the_same_terms():
    assert len({frozenset(own) for own in terms.TERMS.values()}) == 1
    for trainer in planted_peers.K_STARTS:
        assert trainer.split()[0].rstrip(",") in terms.TERMS


def test_what_a_script_sets_for_all_is_equal_for_all():
    shared = benchmark.shared_terms(benchmark.Options())
    equal, _ = terms.split_terms(terms.with_shared(shared, set(terms.TERMS)))
    assert equal.items() >= shared.items()
    assert "Equal for all:" in terms.show_terms(terms.with_shared(shared, set(terms.TERMS)))


def test_k_is_annealed_as_this_engine_anneals_it():
    from interp.crosscoder import CrosscoderConfig, TrainConfig
    from interp.crosscoder.trainer import k_at

    recipe = contestants.Recipe(1e-3, 2, k_start=10, k_steps=20)
    config = CrosscoderConfig(n_models=2, d_model=8, n_latents=32, k=2)
    own = TrainConfig(steps=40, k_start=10, k_anneal_fraction=0.5)
    theirs = [contestants.annealed_k(step, SHAPE, recipe) for step in range(40)]
    assert theirs == [k_at(step + 1, config, own) for step in range(40)]
    assert (theirs[0], theirs[-1]) == (10, 2)


def test_the_k_of_a_recipe_is_the_k_of_the_update(trainer):
    recipe = contestants.Recipe(1e-3, 2, k_start=10, k_steps=20)
    contestant = contestants.make(trainer, SHAPE, recipe)
    contestant.update(rows())
    # k latents per row leave few that have not fired on 64 rows; ten times as many fire as with k = 1.
    fired = float((contestant.counter().since_fired == 0).double().mean())
    few = contestants.make(trainer, contestants.Shape(2, 8, 32, 1, 4, 40), contestants.Recipe(1e-3, 2))
    few.update(rows(4))
    assert fired > 0.9 > 0.5 > float((few.counter().since_fired == 0).double().mean())


@pytest.mark.parametrize("counted", [True, False])
def test_held_latents_are_dead_in_every_update_and_auxk_trains_them(trainer, counted):
    recipe = contestants.Recipe(1e-2, 1, dead_after=1000, k_aux=4)
    contestant = contestants.make(trainer, SHAPE, recipe)
    dead = benchmark.evenly(SHAPE.n_latents, 0.25)
    weak, shares = contestants.weak_rows(contestant, dead), []
    contestants.hold_dead(contestant, dead, weak, counted=counted)
    contestant.update(rows())
    before = contestant.decoder()[dead].clone()
    for _ in range(5):
        contestants.hold_dead(contestant, dead, weak, counted=counted)
        contestant.update(rows())
        shares.append(contestant.counter().dead_share())
    assert set(shares) == {0.25 if counted else 0.0}
    moved = (contestant.decoder()[dead] - before).abs().max() > 1e-3
    assert bool(moved) == counted


def decoders_after_auxk(trainer, weight, *, counted=True):
    """Decoders after updates with a quarter of the latents out of use, dead by the trainer's counter if `counted`."""
    recipe = contestants.Recipe(1e-2, 1, dead_after=1000, k_aux=4, aux_weight=weight)
    contestant = contestants.make(trainer, SHAPE, recipe)
    contestant.update(rows())  # moments of the main loss: from AuxK's gradient alone, Adam's step has no scale
    dead = benchmark.evenly(SHAPE.n_latents, 0.25)
    weak = contestant.encoder()[dead] / 10  # too small to be chosen, large enough to be positive despite the bias
    for _ in range(3):
        contestants.hold_dead(contestant, dead, weak, counted=counted)
        contestant.update(rows())
    return contestant.decoder().clone()


def test_the_weight_of_auxk_is_the_weight_of_the_update(trainer):
    own, light, heavy = (decoders_after_auxk(trainer, weight) for weight in (None, 1 / 32, 1.0))
    assert (light - heavy).abs().max() > 1e-4
    assert torch.equal(own, heavy if "sae-lens" in trainer else light)
    light, heavy = (decoders_after_auxk(trainer, weight, counted=False) for weight in (1 / 32, 1.0))
    assert torch.equal(light, heavy)


def test_a_latent_is_dead_after_the_rows_of_the_recipe(trainer):
    contestant = contestants.make(trainer, SHAPE, contestants.Recipe(1e-4, 1, dead_after=2 * SHAPE.batch))
    weak, counts = contestants.weak_rows(contestant, torch.tensor([5])), []
    for _ in range(3):
        contestant.encoder()[5] = weak
        contestant.update(rows())
        counter = contestant.counter()
        counts.append(bool(counter.since_fired[5] >= counter.dead_from))
    assert (counts[0], counts[2]) == (False, True)  # trainers differ in whether the threshold itself is dead


def test_auxk_is_off_without_dead_after(trainer):
    contestant = contestants.make(trainer, SHAPE, contestants.Recipe(1e-3, 1))
    for _ in range(3):
        contestant.update(rows())
    assert contestant.counter().dead_share() == 0.0


@pytest.mark.parametrize(("n", "share"), [(8, 0.25), (10, 0.0), (7, 0.5), (100, 0.99)])
def test_dead_latents_are_different_places_of_the_dictionary(n, share):
    places = benchmark.evenly(n, share)
    assert len(set(places.tolist())) == round(n * share)
    assert all(0 <= place < n for place in places.tolist())


@pytest.mark.parametrize(
    ("device", "can", "n_bf16"), [("cpu", {}, 0), ("cpu", {"avx512_bf16": True}, 4), ("cuda", {}, 5)]
)
def test_bfloat16_is_timed_where_it_is_not_emulated(device, can, n_bf16, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    names = benchmark.contestants(benchmark.Options(device=device))
    assert sum("bf16" in name for name in names) == n_bf16
    assert sum("bf16" not in name for name in names) == 5
    assert ("sae-lens BatchTopK, bf16 autocast" in names) == (n_bf16 > 0)
    assert benchmark.contestants(benchmark.Options(only=("sae-lens",))) == [
        n for n in contestants.CONTESTANTS if "sae" in n
    ]


def test_turns_alternate_with_auxk_first_and_make_all_updates():
    turns = benchmark.turns(benchmark.Options(steps=10, turn=4))
    assert [(done, turn.updates, turn.counted) for done, turn in turns] == [(0, 4, True), (4, 4, False), (8, 2, True)]
    assert all(turn.counted for _, turn in benchmark.turns(benchmark.Options(steps=10, turn=4, sweep=True)))


def test_times_of_turns_with_and_without_dead_latents_are_kept_apart():
    import polars as pl

    turn = [50.0, 20.0, 10.0, 4.0, 12.0, 6.0]
    table = pl.DataFrame(
        {
            "name": ["a"] * 6,
            "counted": [True, False] * 3,
            "turn": turn,
            "updates": [2] * 6,
            "step": [2, 4, 6, 8, 10, 12],
            "fve": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            "dead": [0.25, 0.0] * 3,
            "peak": [2_000_000_000] * 6,
            "own": [1_000_000_000] * 6,
            "l0": [2.0] * 6,
        }
    )
    timed = benchmark.timed(table)
    assert timed["ms"].to_list() == [11.0, 5.0] * 3
    assert timed["elapsed"].to_list() == pytest.approx([0.022, 0.032, 0.054, 0.064, 0.086, 0.096])
    row = benchmark.summary(table, benchmark.Options(batch=11)).row(0, named=True)
    assert (row["ms, AuxK at work"], row["ms, none dead"], row["dead"]) == (11.0, 5.0, 0.25)
    assert row["rows/s, AuxK at work"] == pytest.approx(1000.0)
