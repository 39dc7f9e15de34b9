"""Running a table on the small models: what is run again, and that packing and copying change nothing."""

import json
import os
import pickle
import signal
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest
import torch
from small import D_MODEL

from interp.causal import run as run_module
from interp.causal.arms import STYLE, Arm
from interp.causal.edits import Add, Echo, NoEdit, Redraw, ablate, ban, patch_from, substitute
from interp.causal.edits.ban import Ban
from interp.causal.places import Places, after_first
from interp.causal.run import cells_of
from interp.causal.run import run as run_arms
from interp.causal.runs import INDEX, SCHEMA, UNTOUCHED, read_part, read_runs
from interp.causal.setting import GREEDY, SAMPLED
from interp.errors import InterpError
from interp.models.hooks import Site
from interp.names import OUTCOMES
from interp.tasks.chains import ChainTask

from .runs import Table, answers, make_setting

N = 8
BAN = Ban(("wait",), "one word")


@pytest.fixture(scope="module")
def setting(models, tokenizer):
    return make_setting(models, tokenizer, N, max_new_tokens=14)


def shift(scale, seed=0):
    vector = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Add(Site(1, "resid_post"), vector, scale=scale, label="v")


def arms(setting, dose=3.0):
    echo = Arm("echo", Echo(setting.lexicon), (Redraw(setting.lexicon, 1), Redraw(setting.lexicon, 2)), "redraw")
    style = Arm("banned", BAN, (Ban(("next",)), Ban(("now",))), "others", STYLE, models=("distilled", "base"))
    steer = Arm("steered", shift(dose), (shift(dose, 1),), "random", problems=6, control_problems=4, dose=dose)
    return [style, echo, steer]


@pytest.fixture
def written(monkeypatch):
    """Completions of each (model, label of the batch) that are really written."""
    counts = Counter()
    plain = run_module.write

    def write(decoder, tokenizer, jobs, how):
        counts["batches"] += 1
        counts["completions"] += sum(len(job.prompts) for job in jobs)
        return plain(decoder, tokenizer, jobs, how)

    monkeypatch.setattr(run_module, "write", write)
    return counts


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run_arms(setting, arms(setting), folder)


def same(a, b):
    keys = ["arm", "draw", "model", "decoding", "number"]
    return a.table.sort(keys).equals(b.table.sort(keys))


def test_every_run_of_the_table_is_there_with_its_own_problems(setting, whole):
    _, runs = whole
    assert runs.table.schema == pl.Schema(SCHEMA)
    for model in ("distilled", "base"):
        for decoding in (SAMPLED, GREEDY):
            assert runs.rows(UNTOUCHED, 0, model, decoding)["problem"].to_list() == [p.id for p in setting.problems]
            assert runs.has("banned", 0, model, decoding)
    assert runs.draws("banned") == [1, 2] and runs.draws("banned", "base") == []
    assert not runs.has("banned", 1, "distilled", GREEDY)
    assert not runs.has(UNTOUCHED, 0, "zero_rl")
    assert runs.numbers("steered") == list(range(6)) and runs.numbers("steered", 1) == list(range(4))
    index = runs.arms["steered"]
    assert (index["dose"], index["control_name"], index["models"], index["edit"]) == (
        3.0,
        "random",
        ("distilled",),
        shift(3.0).name,
    )
    texts, banned = runs.texts(UNTOUCHED), runs.texts("banned")
    assert any("wait" in text for text in texts)
    assert not any("wait" in text for text in banned)
    assert [f > 0 for f in runs.fired("banned")] == ["wait" in t for t in texts]
    assert runs.texts(UNTOUCHED, 0, "base") != texts
    assert runs.rows(UNTOUCHED, 0, "distilled", GREEDY)["text"].to_list() != texts


def test_outcomes_are_those_of_the_texts(setting, whole):
    _, runs = whole
    rows = runs.rows("banned", 1)
    assert rows["accuracy_top"].to_list() == [
        float(setting.task.correct(p, t)) for p, t in zip(setting.problems, rows["text"], strict=True)
    ]
    assert rows["length_top"].to_list() == [len(ids) for ids in rows["completion_ids"]]
    assert rows["finished_top"].to_list() == [float(done) for done in rows["done"]]
    assert rows["marker_density_top"].to_list() == [100.0 * len(setting.lexicon.marker_spans(t)) for t in rows["text"]]
    assert runs.outcomes("banned", 1).value("length") == pytest.approx(rows["n_tokens"].mean())
    assert rows["difficulty"].to_list() == [p.difficulty for p in setting.problems]
    assert set(rows["prompt_ids"].to_list()[0]) <= set(range(100))


def test_a_second_call_runs_nothing_and_reads_the_same(setting, whole, written):
    folder, runs = whole
    done = []
    assert same(run_arms(setting, arms(setting), folder, on_done=done.append), runs)
    assert written == {}
    assert sum(done) == len(runs.table)
    read = read_runs(folder)
    assert same(read, runs)
    assert list(read.arms) == list(runs.arms)


def test_a_killed_table_resumes_at_the_run(setting, whole, written, tmp_path, monkeypatch):
    """Killed after five runs are written: those are read, the others are run, and the table is the same."""
    kept, plain = [], run_module.write_part

    def killed(path, rows):
        if len(kept) == 5:
            raise KeyboardInterrupt
        kept.append(path.name)
        plain(path, rows)

    small = replace(setting, rows=N)
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_part", killed)
        with pytest.raises(KeyboardInterrupt):
            run_arms(small, arms(setting), tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.parquet")) == sorted(kept)
    assert not (tmp_path / INDEX).exists()
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.parquet")}
    again = []
    monkeypatch.setattr(run_module, "write_part", lambda path, rows: (again.append(path.name), plain(path, rows)))
    assert same(run_arms(small, arms(setting), tmp_path), whole[1])
    assert not set(again) & set(kept)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.parquet") if p.name in before} == before


def test_a_changed_dose_runs_that_arm_alone_and_a_renamed_arm_is_another(setting, whole, written, tmp_path):
    folder, runs = whole
    changed = run_arms(setting, arms(setting, dose=5.0), tmp_path, earlier=[folder])
    assert written["completions"] == 6 + 6 + 4  # sampled, greedy, one control
    assert changed.arms["steered"]["dose"] == 5.0
    assert changed.rows("banned").equals(runs.rows("banned"))
    assert not changed.rows("steered").equals(runs.rows("steered"))
    written.clear()
    *others, steered = arms(setting)
    renamed = run_arms(setting, [*others, replace(steered, name="other")], tmp_path, earlier=[folder])
    assert written["completions"] == 16
    assert renamed.texts("other") == runs.texts("steered")
    assert read_runs(tmp_path).arms.keys() == {"banned", "echo", "other"}, "only the last table's arms"


CHANGES = {
    "seed": lambda s: {"seed": 1},
    "temperature": lambda s: {"temperature": 0.7},
    "limit": lambda s: {"max_new_tokens": 10},
    "lexicon": lambda s: {"lexicon": replace(s.lexicon, neutral=("so",))},
    "grader": lambda s: {"task": ChainTask(7)},
    "right answer": lambda s: {"problems": [replace(p, answer="?") for p in s.problems]},
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_run_depends_on_is_in_its_name(setting, what):
    change = CHANGES[what](setting)
    other = replace(setting, **change)
    for cell in cells_of(arms(setting)[:2], setting):
        assert cell.content(setting) != cell.content(other)
        assert cell.content(setting) == cell.content(replace(setting, rows=3)), "not the size of a batch"


def test_of_other_models_only_what_an_edit_needs_is_in_its_name(setting):
    other = replace(setting, names=setting.names | {"base": "new weights"})
    (alone, *_), (along, *_) = (
        [c for c in cells_of([Arm("a", edit)], setting) if c.arm == "a"] for edit in (BAN, patch_from("base", 1))
    )
    assert alone.content(setting) == alone.content(other)
    assert along.content(setting) != along.content(other)


def test_names_of_files_differ_and_are_stable(setting):
    cells = cells_of(arms(setting), setting)
    keys = [c.key(c.content(setting)) for c in cells]
    assert len(set(keys)) == len(keys)
    assert keys == [c.key(c.content(setting)) for c in cells_of(arms(setting), setting)]


@pytest.mark.parametrize("damage", ["cut", "empty", "other columns", "too few rows", "gone"])
def test_a_damaged_part_is_run_again(setting, whole, written, tmp_path, damage):
    folder, runs = whole
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cell = next(c for c in cells_of(arms(setting), setting) if (c.arm, c.draw, c.decoding) == ("steered", 0, SAMPLED))
    path = tmp_path / f"{cell.key(cell.content(setting))}.parquet"
    part = read_part(path, 6)
    assert part is not None and read_part(path, 7) is None
    if damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: 100 if damage == "cut" else 0])
    elif damage == "gone":
        path.unlink()
    else:
        (part.drop("fired") if damage == "other columns" else part.head(5)).write_parquet(path)
    assert same(run_arms(setting, arms(setting), tmp_path), runs)
    assert written == {"batches": 1, "completions": 6}
    assert read_part(path, 6).equals(part)


@pytest.mark.parametrize("rows", [1, 5])
def test_packing_and_chunking_change_nothing(setting, whole, tmp_path, rows):
    chosen = arms(setting)[1:] if rows == 1 else arms(setting)
    small = run_arms(replace(setting, rows=rows), chosen, tmp_path)
    for name, draw, model, decoding in small._groups:
        assert small.rows(name, draw, model, decoding).equals(whole[1].rows(name, draw, model, decoding)), name


@pytest.fixture
def shared(setting, models, tokenizer, tmp_path):
    """The same setting for two processes, which read the models from files."""
    paths = {name: str(tmp_path / name) for name in models}
    for name, path in paths.items():
        models[name].save_pretrained(path)
        tokenizer.save_pretrained(path)
    return replace(setting, rows=5, paths=paths, workers=2, threads=1)


def test_other_processes_write_the_same_to_the_bit(setting, shared, whole, written, tmp_path):
    """Also at places that are a function without a name. This process writes nothing."""
    placed = Arm("placed", shift(3.0).at(after_first(4)), (patch_from("base", 1),), "a patch")
    alone = run_arms(setting, [*arms(setting), placed], tmp_path / "alone", earlier=[whole[0]])
    written.clear()
    with shared.crew() as spread:
        runs = run_arms(shared, [*arms(setting), placed], tmp_path / "runs", spread=spread)
    assert same(runs, alone) and written == {}
    assert same(read_runs(tmp_path / "runs"), alone)
    assert not runs.rows("placed").equals(runs.rows("steered"))


def test_a_setting_is_handed_on_without_weights(shared, models):
    found = pickle.loads(data := pickle.dumps(shared))
    assert len(data) < sum(weight.nbytes for weight in models["base"].parameters())
    assert found.encoded == shared.encoded and found.key("base", frozenset(), [0]) == shared.key(
        "base", frozenset(), [0]
    )
    for name, model in models.items():
        weights = found.models[name].state_dict()
        assert all(torch.equal(weights[key], weight) for key, weight in model.state_dict().items())


def test_where_a_writing_process_is_killed_what_is_finished_is_kept(setting, shared, whole, tmp_path):
    here = os.getpid()

    def mask(r):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros_like(r.real)

    deadly = Places("deadly", mask)
    chosen = [*arms(setting)[:1], Arm("killed", shift(3.0).at(deadly))]
    line = r"was killed, .*; lower causal.workers or causal.batch_size and run again"
    with pytest.raises(InterpError, match=line), shared.crew() as spread:
        run_arms(shared, chosen, tmp_path / "runs", spread=spread)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.parquet")}
    assert len(kept) >= 4, "the untouched runs"
    again = run_arms(setting, chosen, tmp_path / "runs")
    assert again.only(["banned"]).table.equals(whole[1].only(["banned"]).table.filter(pl.col("model") != "zero_rl"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_rows_that_cannot_act_are_copied_and_equal_a_full_run(setting, whole, written, tmp_path, monkeypatch):
    """Completions that are not written again are those in whose untouched text the ban never acts."""
    _, runs = whole
    alone = [arms(setting)[0]]
    copied = run_arms(setting, alone, tmp_path / "copied")
    fewer = written["completions"]
    written.clear()
    monkeypatch.setattr(Ban, "may_act", lambda *_: True)
    full = run_arms(setting, alone, tmp_path / "full")
    assert written["completions"] == len(full.table) > fewer
    assert same(copied, full)
    quiet = [i for i, text in enumerate(runs.texts(UNTOUCHED)) if "wait" not in text]
    assert quiet
    columns = [c for c in SCHEMA if c not in ("arm", "fired")]
    untouched, banned = runs.rows(UNTOUCHED)[quiet], runs.rows("banned")[quiet]
    assert banned.select(columns).equals(untouched.select(columns))
    assert banned["fired"].to_list() == [0] * len(quiet)
    assert set(banned["arm"]) == {"banned"}


def test_an_arm_may_begin_later_and_its_draws_may_hold_fewer_problems(setting, tmp_path):
    later = Arm("later", BAN, (Ban(("next",)),), "c", first=3, problems=4, control_problems=9)
    runs = run_arms(setting, [later], tmp_path)
    assert runs.numbers("later") == [3, 4, 5, 6] and runs.numbers("later", 1) == [3, 4, 5, 6]
    full = run_arms(setting, [Arm("all", BAN)], tmp_path / "all")
    assert runs.texts("later") == full.texts("all")[3:7], "on the noise of its own problems"
    untouched = runs.outcomes(UNTOUCHED, numbers=runs.numbers("later"))
    assert untouched.parts["length"][0].tolist() == runs.outcomes(UNTOUCHED).parts["length"][0][3:7].tolist()


def test_at_temperature_0_all_is_greedy_once(setting, tmp_path):
    greedy = replace(setting, temperature=0.0)
    runs = run_arms(greedy, [Arm("banned", BAN, (Redraw(setting.lexicon, 1),), "c")], tmp_path)
    assert set(runs.table["decoding"]) == {SAMPLED}
    sampled = run_arms(setting, [Arm("banned", BAN)], tmp_path / "sampled")
    assert runs.texts("banned") == sampled.rows("banned", 0, "distilled", GREEDY)["text"].to_list()
    assert runs.texts("banned", 1) == runs.texts(UNTOUCHED), "greedily drawn anew is drawn the same"


def test_the_index_names_the_table(setting, whole):
    folder, runs = whole
    index = json.loads((folder / INDEX).read_text())
    assert set(index["arms"]) == {"banned", "echo", "steered"}
    assert len(index["parts"]) == len(runs._groups)
    assert index["arms"]["banned"]["claim"] == STYLE


def test_a_folder_that_is_none_or_damaged_is_refused(whole, tmp_path):
    with pytest.raises(InterpError, match="no runs"):
        read_runs(tmp_path)
    folder, _ = whole
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    parts = json.loads((tmp_path / INDEX).read_text())["parts"]
    (tmp_path / f"{parts[3]}.parquet").unlink()
    with pytest.raises(InterpError, match="cannot be read"):
        read_runs(tmp_path)
    for text in ("{", "{}", "[]"):
        (tmp_path / INDEX).write_text(text)
        with pytest.raises(InterpError, match="cannot be read"):
            read_runs(tmp_path)


def test_wrong_arms_are_refused(setting, models, tokenizer):
    for name in ("", UNTOUCHED):
        with pytest.raises(InterpError, match="name of its own"):
            Arm(name, BAN)
    with pytest.raises(InterpError, match="claim"):
        Arm("a", BAN, claim="style")
    with pytest.raises(InterpError, match="'a' occurs twice"):
        cells_of([Arm("a", BAN), Arm("b", BAN), Arm("a", BAN)], setting)
    with pytest.raises(InterpError, match="no model 'control'"):
        cells_of([Arm("a", BAN, models=("control",))], setting)
    with pytest.raises(InterpError, match="no model 'control'"):
        cells_of([Arm("a", patch_from("control", 1))], setting)
    with pytest.raises(InterpError):
        cells_of([Arm("a", Add(Site(9, "resid_post"), torch.ones(D_MODEL)))], setting)
    with pytest.raises(InterpError):
        cells_of([Arm("a", Add(Site(1, "resid_post"), torch.ones(D_MODEL + 1)))], setting)
    with pytest.raises(InterpError):
        cells_of([Arm("a", BAN, (Add(Site(1, "resid_post"), torch.ones(D_MODEL + 1)),))], setting)
    with pytest.raises(InterpError, match="give as many"):
        make_setting(models, tokenizer, 4, prompts={name: ["A"] for name in models})


def test_what_is_not_in_the_table_is_named():
    runs = Table().untouched("distilled", answers(0.5, 6)).runs()
    with pytest.raises(InterpError, match="no run 'missing'"):
        runs.rows("missing")
    with pytest.raises(InterpError, match="of base"):
        runs.outcomes(UNTOUCHED, 0, "base")
    with pytest.raises(InterpError, match="lacks 2 of 4 problems"):
        runs.outcomes(UNTOUCHED, numbers=[4, 5, 6, 7])
    assert runs.outcomes(UNTOUCHED, numbers=[4, 5]).parts["accuracy"][0].tolist() == [0.0, 0.0]


def test_outcomes_by_difficulty():
    runs = Table().untouched("distilled", answers(0.5, 8), difficulty=[0, 0, 1, 1, 1, 1, 2, 2]).runs()
    by = runs.by("difficulty").sort("difficulty")
    assert by["accuracy"].to_list() == [1.0, 0.5, 0.0]
    assert by["problems"].to_list() == [2, 4, 2]
    assert runs.by("difficulty", "length")["length"].to_list() == [40.0] * 3
    assert set(OUTCOMES) >= {"accuracy", "length"}


def test_a_model_reads_its_own_prompts(models, tokenizer, tmp_path):
    plain = make_setting(models, tokenizer, 6)
    other = {name: [p.prompt for p in plain.problems] for name in models}
    other["base"] = [f"Q 1 {p[1:]}" for p in other["base"]]
    setting = replace(plain, prompts=other)
    assert setting.own_prompts("distilled") == {"base"} and setting.own_prompts("base") == {"distilled", "zero_rl"}
    along = Arm("patched", patch_from("base", 1), models=("distilled",))
    runs = run_arms(setting, [along, Arm("banned", ban(["wait"]), models=("base",))], tmp_path)
    ids = runs.rows(UNTOUCHED, 0, "base")["prompt_ids"].to_list()
    assert ids == [tokenizer.encode(p, add_special_tokens=False) for p in other["base"]]
    apart = run_arms(plain, [along], tmp_path / "plain")
    assert runs.texts("patched") != apart.texts("patched")


def test_an_ablation_of_nothing_is_the_untouched_run(setting, tmp_path):
    from small import small_crosscoder

    cc = small_crosscoder()
    runs = run_arms(setting, [Arm("none", ablate(cc, [], 1, models=("base", "distilled", "zero_rl")))], tmp_path)
    assert runs.texts("none") == runs.texts(UNTOUCHED)
    assert runs.fired("none").sum() == 0


def test_an_equal_edit_under_another_name_is_not_run_again(setting, written, tmp_path):
    """Its rows are the first one's but for the labels; another edit, draw, model or number of problems is run."""
    first = Arm("one", BAN, (substitute(("wait",), ("next",)),), "other")
    plain = run_arms(setting, [first], tmp_path / "first")
    alone = written["completions"]
    written.clear()
    again = [first, Arm("two", BAN, (BAN,), "the same"), Arm("three", BAN, problems=2)]
    both = run_arms(setting, again, tmp_path / "both")
    assert written["completions"] <= alone + 2 * 2, "three's two problems, sampled and greedy"
    for name, draw in (("two", 0), ("two", 1)):
        rows = both.rows(name, draw).drop("arm", "draw")
        assert rows.equals(plain.rows("one").drop("arm", "draw"))
        assert set(both.rows(name, draw)["arm"]) == {name} and set(both.rows(name, draw)["draw"]) == {draw}
    assert len(both.rows("three")) == 2
    assert run_arms(setting, again, tmp_path / "both").table.equals(both.table)


def test_an_edit_of_another_model_is_that_models_own(setting):
    """`Edit.on` is asked for every model but the first."""

    class Named(NoEdit):
        def on(self, model):
            return ban((f"for {model}",))

    cells = cells_of([Arm("a", Named(), models=("distilled", "base"))], setting)
    edits = {c.model: c.edit.name for c in cells if c.arm == "a"}
    assert "for base" in edits["base"] and "for" not in edits["distilled"]
