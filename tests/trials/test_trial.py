"""A trial on organisms too small to mean anything: what is made once is not made again; what is shown is measured."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.config import check_config, load_config
from interp.errors import InterpError
from interp.locks import locked
from interp.models.descendants import Distilled
from interp.models.training import Document
from interp.organisms.documents import plain, right
from interp.tasks.chains import ChainTask
from interp.traces.placement import last_step
from interp.trials.claims import Claim
from interp.trials.results import Results, one_line, publish
from interp.trials.run import Entry, run_trial
from interp.trials.script import TrialOptions, conduct
from interp.trials.teachers import emergent
from interp.trials.world import World, wrong_answer

TINY = Path(__file__).parents[2] / "experiments" / "configs" / "tiny.yaml"
MANY = ChainTask(4).problems(300, 77, "train")
CLAIM = Claim("taught is better", "someone", "taught", "base", "more")


def config():
    whole = load_config(TINY)
    organism = whole.organism
    quick = organism.model_copy(
        update={
            "pretraining": organism.pretraining.model_copy(update={"steps": 20}),
            "distillation": organism.distillation.model_copy(update={"steps": 10}),
        }
    )
    return whole.model_copy(update={"organism": quick, "seed": 0})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(config(), tmp_path_factory.mktemp("store"))
    world.make({}, (0, 1))
    return world


def entries(world, seed):
    base = world.base(seed)
    problems = world.learned_problems(32, seed)
    documents = [Document(p.prompt, plain(p.prompt, random.Random(p.prompt), work=right)) for p in problems]
    arm = Distilled(base, documents, world.config.organism.distillation, seed)
    body = last_step(world.task, world.voice)
    return {"base": Entry(base), "taught": Entry(arm), "taught, last step": Entry(arm, body)}


@pytest.fixture(scope="module")
def found(world):
    return run_trial(world, {seed: entries(world, seed) for seed in (0, 1)})


def test_nothing_is_made_twice(world, found):
    before = {p: p.stat().st_mtime_ns for p in world.store.rglob("*.safetensors")}
    assert len(before) == 4  # a base and one arm for each of two seeds; the third entry is the same arm
    again = run_trial(world, {0: entries(world, 0)})[0]
    assert {p: p.stat().st_mtime_ns for p in world.store.rglob("*.safetensors")} == before
    for name, measured in again.items():
        for outcome, parts in measured.outcomes.parts.items():
            assert np.array_equal(parts[0], found[0][name].outcomes.parts[outcome][0])


def test_a_moved_store_is_known_again(world, found, tmp_path):
    moved = tmp_path / "elsewhere"
    world.store.rename(moved)
    try:
        there = World(world.config, moved)
        assert all(there.place(e.arm).exists() for e in entries(there, 0).values() if not isinstance(e.arm, str))
    finally:
        moved.rename(world.store)


def test_another_text_or_seed_is_another_arm(world, found):
    arm = entries(world, 0)["taught"].arm
    other = Distilled(arm.base, [*arm.documents[:-1], Document("Q", "A")], arm.recipe, arm.seed)
    assert len({world.place(a) for a in (arm, other, Distilled(arm.base, arm.documents, arm.recipe, 1))}) == 3


def test_learned_and_tested_problems_do_not_meet(world):
    tested = {p.id for p in world.tested}
    for seed in (0, 1, 2):
        assert not tested & {p.id for p in world.learned_problems(200, seed)}
    steps = [len(w.steps) for w in world.learned(20, 0)]
    assert set(steps) == {3}


def test_wrong_steps_are_carried_on_to_the_answer(world):
    problems, worked = world.learned_problems(200, 0), world.learned(200, 0, wrong=0.3)
    right = [w.answer == p.answer for w, p in zip(worked, problems, strict=True)]
    assert 0.2 < np.mean(right) < 0.6
    assert all(w.steps[-1].endswith(f"= {w.answer}") and w.answer != w.wrong for w in worked)


@given(st.integers(0, 10**7), st.booleans(), st.integers(0, 99))
def test_a_wrong_number_is_another_of_as_many_digits(n, negative, seed):
    answer = f"-{n}" if negative else str(n)
    wrong = wrong_answer(answer, [answer], random.Random(seed))
    assert int(wrong) != n
    if n < 10**5:
        assert len(wrong) == len(str(n))


def test_a_wrong_word_is_another_problems_answer():
    rng = random.Random(0)
    assert {wrong_answer("ann", ["ann", "bob", "cy"], rng) for _ in range(40)} == {"bob", "cy"}
    with pytest.raises(InterpError, match="every problem has the answer 'ann'"):
        wrong_answer("ann", ["ann"], rng)


def test_the_base_has_moved_nowhere_and_an_arm_somewhere(found):
    for arms in found.values():
        assert arms["base"].distance == 0
        assert 0 < arms["taught"].distance == arms["taught, last step"].distance


def test_what_is_published(found, tmp_path, capsys):
    results = Results(found, bound=0.05, resamples=300)
    publish("some_trial", results, [CLAIM], tmp_path / "out", tmp_path)
    summary = pl.read_parquet(tmp_path / "out" / "arms.parquet")
    row = summary.filter((pl.col("arm") == "taught") & (pl.col("outcome") == "accuracy")).to_dicts()[0]
    values = [found[seed]["taught"].outcomes.value("accuracy") for seed in found]
    assert row["estimate"] == pytest.approx(np.mean(values)) and row["by_seed"] == pytest.approx(values)
    assert row["low"] <= row["estimate"] <= row["high"]
    readings = pl.read_parquet(tmp_path / "out" / "claims.parquet")
    assert readings["reading"][0].startswith(("holds", "does not hold", "undecided"))
    assert one_line("some_trial", readings) in capsys.readouterr().out
    assert (tmp_path / "some_trial.svg").stat().st_size > 1000


def test_a_claim_whose_presumption_fails_says_nothing(found):
    results = Results(found, bound=0.05, resamples=300)
    claim = Claim("as good", "someone", "taught", "taught", "same", presumes=("base", "base"))
    assert results.readings([claim])["reading"][0] == "undecided (not shown that base beats base)"


def test_emergent_traces_come_from_a_file_where_one_is_given(world, tmp_path):
    file = tmp_path / "traces.jsonl"
    file.write_text('{"question": "Q 1 + 1 A", "answer": "2", "trace": "1 + 1 = 2 #### 2"}\n')
    assert emergent(world, 0, 1, file) == [Document("Q 1 + 1 A", "1 + 1 = 2 #### 2")]
    with pytest.raises(InterpError, match=r"traces\.jsonl: 1 rows have a trace and 2 are wanted"):
        emergent(world, 0, 2, file)


def test_a_users_own_trio_and_file(world, tmp_path):
    base, file = world.base(0), tmp_path / "problems.jsonl"
    rows = [
        {"question": p.prompt, "answer": p.answer, "trace": plain(p.prompt, random.Random(1), work=right)} for p in MANY
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = config().model_dump(mode="json")
    raw["checkpoints"] = {"base": base, "distilled": base, "zero_rl": base}
    raw["traces"] |= {"file": str(file), "modulus": 10, "labels": "construction", "problems": 16}
    own = World(check_config(raw, "own"), tmp_path / "store")
    assert own.base(5) == base and not own.is_organism
    asked, learned = {p.id for p in own.tested}, {p.id for p in own.learned_problems(100, 0)}
    assert len(asked) == 16 and len(learned) == 100 and not asked & learned
    assert [len(w.steps) for w in own.learned(3, 0)] == [3, 3, 3]
    documents = [Document(p.prompt, p.trace) for p in own.learned_problems(32, 0)]
    arm = Distilled(base, documents, own.config.organism.distillation, 0)
    measured = run_trial(own, {0: {"base": Entry(base), "taught": Entry(arm)}})[0]
    assert measured["taught"].distance > measured["base"].distance == 0
    with pytest.raises(InterpError, match="and 1000 are wanted"):
        own.learned_problems(1000, 0)


def test_a_file_too_small_to_hold_any_out_is_refused(world, tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text('{"question": "Q 1 + 1 A", "answer": "2"}\n')
    raw = config().model_dump(mode="json")
    raw["checkpoints"] = dict.fromkeys(("base", "distilled", "zero_rl"), world.base(0))
    raw["traces"]["file"] = str(file)
    own = World(check_config(raw, "own"), tmp_path / "store")
    with pytest.raises(
        InterpError,
        match=r"one\.jsonl: of 1 problems, one in 8 is held out by a checksum of its text; (none|all of them) were",
    ):
        _ = own.tested, own.learned_problems(1, 0)


def test_two_runs_of_an_experiment_never_write_one_folder(tmp_path):
    options = TrialOptions(TINY, (0,), tmp_path, tmp_path)
    with locked(tmp_path / "mine"), pytest.raises(InterpError, match="another run is writing"):
        conduct("mine", options, lambda *_: {}, ())
    assert list(tmp_path.iterdir()) == []
