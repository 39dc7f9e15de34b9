"""The order of the stages and what decides whether one runs, with stages that write a line instead of a model."""

import itertools
import json
import os
import sys
from types import SimpleNamespace

import pytest

from interp.config import check_config
from interp.errors import InterpError
from interp.folders import MANIFEST, commit, read_manifest
from interp.models.revision import hub_commit
from interp.pipeline import BY_NAME, STAGES, outside, run_stage, run_study, stage_config
from interp.study import Study

NAMES = [stage.name for stage in STAGES]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def ran(monkeypatch):
    """The stages that have run; each writes a line of its inputs' lines and its own part of the config."""
    ran = []

    def fake(module):
        name = module.rsplit(".", 1)[1]
        stage = next(s for s in STAGES if s.name == name)

        def run(study, out):
            ran.append(name)
            lines = [json.loads((study.folder(read) / "line.txt").read_text()) for read in stage.reads]
            (out / "line.txt").write_text(json.dumps([name, stage_config(stage, study.config), lines]))
            return 7

        return SimpleNamespace(run=run)

    monkeypatch.setattr("interp.pipeline.import_module", fake)
    return ran


def study(root, **changes):
    return Study(check_config(changes, "here"), root)


def silent(_):
    pass


def state(root):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


def test_every_stage_reads_only_stages_before_it():
    for i, stage in enumerate(STAGES):
        assert set(stage.reads) <= set(NAMES[:i])


def test_a_study_runs_every_stage_once_in_order_and_then_does_nothing(tmp_path, ran):
    run_study(study(tmp_path), say=silent)
    assert ran == NAMES
    before, said = state(tmp_path), []
    run_study(study(tmp_path), say=said.append)
    assert ran == NAMES
    assert state(tmp_path) == before
    assert [line.split(":")[0] for line in said] == NAMES
    assert all("done already" in line for line in said)


def test_the_manifest_says_how_the_folder_came_to_be(tmp_path, ran):
    run_study(study(tmp_path, seed=5), say=silent)
    manifest = read_manifest(tmp_path / "traces")
    assert manifest["stage"] == "traces"
    assert manifest["rows"] == 7
    assert manifest["seeds"] == [5]
    assert manifest["config"]["seed"] == 5
    assert manifest["config"]["traces"]["problems"] == 1024
    assert "crosscoder" not in manifest["config"]
    assert set(manifest["inputs"]) == {"checkpoints", "traces.lexicon"}
    assert manifest["versions"]["torch"]
    assert manifest["wall_seconds"] >= 0
    assert set(manifest["files"]) == {"line.txt"}


def test_a_stage_before_its_inputs_names_what_to_run(tmp_path, ran):
    with pytest.raises(InterpError, match="interp checkpoints"):
        run_stage(study(tmp_path), "traces", say=silent)
    assert ran == []
    assert names(tmp_path) == []


def test_another_config_is_refused_by_the_key_that_differs_and_nothing_is_touched(tmp_path, ran):
    run_study(study(tmp_path), say=silent)
    before, after = state(tmp_path), study(tmp_path, crosscoder={"shape": {"k": 13}})
    with pytest.raises(InterpError) as caught:
        run_stage(after, "crosscoder", say=silent)
    message = str(caught.value)
    assert "crosscoder.shape.k = 12, now 13" in message
    assert str(tmp_path / "crosscoder") in message
    assert "--force" in message and "--out" in message
    assert "\n" not in message
    assert state(tmp_path) == before
    assert ran == NAMES


def test_force_replaces_what_differs_and_what_rests_on_it_and_no_more(tmp_path, ran):
    run_study(study(tmp_path), say=silent)
    ran.clear()
    run_study(study(tmp_path, crosscoder={"shape": {"k": 13}}), force=True, say=silent)
    assert ran == ["crosscoder", "features", "causal", "report"]
    assert '"k": 13' in (tmp_path / "report" / "line.txt").read_text()
    assert names(tmp_path) == sorted(NAMES)


def test_a_part_of_the_config_that_a_stage_does_not_read_does_not_run_it_again(tmp_path, ran):
    run_study(study(tmp_path), say=silent)
    ran.clear()
    run_study(study(tmp_path, report={"title": "Another"}), force=True, say=silent)
    assert ran == ["report"]


def test_changed_inputs_are_refused_by_name(tmp_path, ran):
    run_study(study(tmp_path), say=silent)
    run_stage(study(tmp_path, crosscoder={"shape": {"k": 13}}), "crosscoder", force=True, say=silent)
    with pytest.raises(InterpError, match="another crosscoder"):
        run_stage(study(tmp_path, crosscoder={"shape": {"k": 13}}), "features", say=silent)


def test_a_changed_lexicon_file_is_another_input(tmp_path, ran):
    from interp.traces.lexicon import BUNDLED

    words = tmp_path / "words.json"
    words.write_text((BUNDLED / "default.json").read_text())
    mine = study(tmp_path / "out", traces={"lexicon": str(words)})
    run_stage(mine, "checkpoints", say=silent)
    run_stage(mine, "traces", say=silent)
    words.write_text(words.read_text().replace('"oops"', '"alas"'))
    with pytest.raises(InterpError, match=r"traces\.lexicon"):
        run_stage(mine, "traces", say=silent)


def test_a_damaged_input_is_named_before_anything_runs(tmp_path, ran):
    run_stage(study(tmp_path), "checkpoints", say=silent)
    path = tmp_path / "checkpoints" / "line.txt"
    path.write_text("flipped")
    with pytest.raises(InterpError, match="altered") as caught:
        run_stage(study(tmp_path), "traces", say=silent)
    assert str(path) in str(caught.value)
    assert ran == ["checkpoints"]
    assert not (tmp_path / "traces").exists()


def test_a_damaged_manifest_is_one_line(tmp_path, ran):
    run_stage(study(tmp_path), "checkpoints", say=silent)
    (tmp_path / "checkpoints" / MANIFEST).write_text("{}")
    with pytest.raises(InterpError, match=MANIFEST):
        run_stage(study(tmp_path), "checkpoints", say=silent)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_stage_that_is_cut_short_is_absent_and_goes_on_where_it_was(tmp_path, monkeypatch, error):
    seen = []

    def run(study, out):
        seen.append(sorted(p.name for p in out.iterdir() if p.name != ".key"))
        (out / f"part{len(seen)}").write_text("")
        if len(seen) == 1:
            raise error
        return 0

    monkeypatch.setattr("interp.pipeline.import_module", lambda _: SimpleNamespace(run=run))
    with pytest.raises(error):
        run_stage(study(tmp_path), "checkpoints", say=silent)
    assert not (tmp_path / "checkpoints").exists()
    assert run_stage(study(tmp_path), "checkpoints", say=silent)
    assert seen == [[], ["part1"]]
    assert names(tmp_path / "checkpoints") == [MANIFEST, "part1", "part2"]


def test_an_interrupted_stage_of_another_config_starts_anew(tmp_path, monkeypatch):
    seen = []

    def run(study, out):
        seen.append([p.name for p in out.iterdir() if p.name != ".key"])
        (out / "part").write_text("")
        if len(seen) == 1:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr("interp.pipeline.import_module", lambda _: SimpleNamespace(run=run))
    with pytest.raises(KeyboardInterrupt):
        run_stage(study(tmp_path), "checkpoints", say=silent)
    run_stage(study(tmp_path, seed=1), "checkpoints", say=silent)
    assert seen == [[], []]


def published(root):
    return sorted(p for p in root.rglob("*") if p.is_file())


def test_a_finished_study_with_any_damaged_file_is_not_done_already(tmp_path, ran):
    """A flipped bit, a cut and a missing file of every stage, its manifest too, are named in one line."""
    run_study(study(tmp_path), say=silent)
    files = published(tmp_path)
    assert len(files) == 2 * len(NAMES)
    for path in files:
        whole, stat = path.read_bytes(), path.stat()
        for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(InterpError) as caught:
                run_study(study(tmp_path), say=silent)
            message = str(caught.value)
            assert str(path.parent) in message and path.name in message and "remove" in message, path
            assert "--force" not in message and "\n" not in message
            path.write_bytes(whole)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert ran == NAMES
    run_study(study(tmp_path), say=silent)
    assert ran == NAMES


def test_force_runs_a_damaged_stage_again_and_no_other(tmp_path, ran):
    """The same files come of it, so what rests on them stands."""
    run_study(study(tmp_path), say=silent)
    (tmp_path / "traces" / "line.txt").write_text("damaged")
    ran.clear()
    run_study(study(tmp_path), force=True, say=silent)
    assert ran == ["traces"]
    run_study(study(tmp_path), say=silent)
    assert ran == ["traces"]


def test_inputs_that_are_replaced_while_a_stage_runs_are_noticed(tmp_path, monkeypatch, ran):
    run_stage(study(tmp_path), "checkpoints", say=silent)

    def run(study, out):
        run_stage(Study(check_config({"seed": 1}, "here"), tmp_path), "checkpoints", force=True, say=silent)
        return 0

    fake = sys.modules["interp.pipeline"].import_module

    def module(name):
        return SimpleNamespace(run=run) if name.endswith("traces") else fake(name)

    monkeypatch.setattr("interp.pipeline.import_module", module)
    with pytest.raises(InterpError, match="traces: checkpoints changed while it was read"):
        run_stage(study(tmp_path), "traces", say=silent)
    assert not (tmp_path / "traces").exists()


def test_what_another_run_has_finished_meanwhile_is_not_run_again(tmp_path, monkeypatch, ran):
    """It may have ended between this run's first look and its lock."""
    real, looks = sys.modules["interp.pipeline"].read_manifest, []

    def late(folder):
        looks.append(folder)
        return None if len(looks) == 1 else real(folder)

    run_stage(study(tmp_path), "checkpoints", say=silent)
    monkeypatch.setattr("interp.pipeline.read_manifest", late)
    assert not run_stage(study(tmp_path), "checkpoints", say=silent)
    assert ran == ["checkpoints"]
    assert names(tmp_path) == ["checkpoints"]


def key_of(name, **changes):
    """Config and outside hashes of a stage's key."""
    stage, config = BY_NAME[name], check_config(changes, "here")
    return stage_config(stage, config), outside(stage, config)


def test_the_device_in_a_key_is_the_one_that_is_used(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert key_of("traces", device="auto") == key_of("traces", device="cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Some GPU")
    assert key_of("traces", device="auto") == key_of("traces", device="cuda") != key_of("traces", device="cpu")


def test_the_manifest_names_device_and_commit(tmp_path, ran):
    run_stage(study(tmp_path, device="cpu"), "checkpoints", say=silent)
    manifest = read_manifest(tmp_path / "checkpoints")
    assert manifest["device"] == "cpu"
    assert manifest["commit"] == commit()


@pytest.mark.parametrize("name", ["traces", "activations", "causal"])
def test_another_file_of_problems_is_another_input(tmp_path, name):
    """The traces in it are read by `activations`, whose own inputs do not show them."""
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "1 + 1", "answer": 2, "trace": "= 2"}\n')
    before = key_of(name, traces={"file": str(file)})
    file.write_text('{"question": "1 + 1", "answer": 2, "trace": "is 2"}\n')
    assert key_of(name, traces={"file": str(file)}) != before
    for changes in ({"chat_template": True}, {"prompt": "Q: {question}"}, {"problems": 9}):
        assert key_of(name, traces={"file": str(file)} | changes)[0] != before[0]


OWN = {"base": "b", "distilled": "d", "zero_rl": "z"}


@pytest.mark.parametrize("name", ["checkpoints", "traces", "activations", "crosscoder", "features", "causal"])
def test_a_users_model_that_changes_is_another_input_of_every_stage_that_loads_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for folder in OWN.values():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "d" / "adapter_config.json").write_text('{"base_model_name_or_path": "b"}')
    seen = [key_of(name, checkpoints=OWN)[1]]
    assert set(seen[0]) >= {"checkpoints.base", "checkpoints.distilled", "checkpoints.zero_rl"}
    (tmp_path / "z" / "model.safetensors").write_text("weights")
    seen.append(key_of(name, checkpoints=OWN)[1])
    (tmp_path / "b" / "model.safetensors").write_text("weights")
    seen.append(key_of(name, checkpoints=OWN)[1])
    changed = [{key for key in b if a[key] != b[key]} for a, b in itertools.pairwise(seen)]
    # Adapters are merged into their base.
    assert changed == [{"checkpoints.zero_rl"}, {"checkpoints.base", "checkpoints.distilled"}]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub, offline; writes the commit of a repository in it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub_commit.cache_clear()

    def write(folder, text):
        (tmp_path / folder / "refs").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "refs" / "main").write_text(text)
        hub_commit.cache_clear()

    yield write
    hub_commit.cache_clear()


def test_a_model_of_the_hub_is_keyed_by_its_commit(hub):
    own = {name: f"someone/{name}" for name in OWN}
    assert key_of("traces", checkpoints=own)[1]["checkpoints.base"] == "someone/base"
    for sha in ("abc", "def"):
        hub("models--someone--base", sha)
        assert key_of("traces", checkpoints=own)[1]["checkpoints.base"] == f"someone/base@{sha}"


def test_a_benchmark_of_the_hub_is_keyed_by_its_commit(hub, tmp_path):
    hub("datasets--openai--gsm8k", "abc")
    for folder in OWN.values():
        (tmp_path / folder).mkdir()
    own = {name: str(tmp_path / folder) for name, folder in OWN.items()}
    found = key_of("traces", checkpoints=own, task={"kind": "gsm8k"})[1]
    assert found["task.kind"] == "openai/gsm8k@abc"


def test_online_the_hubs_newest_commit_counts(hub, monkeypatch):
    from huggingface_hub import HfApi, constants

    hub("models--someone--base", "old")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "repo_info", lambda self, name, **_: SimpleNamespace(sha="new"))
    assert hub_commit("someone/base", "model") == "someone/base@new"
    hub_commit.cache_clear()

    def unreachable(self, name, **_):
        raise OSError

    monkeypatch.setattr(HfApi, "repo_info", unreachable)
    assert hub_commit("someone/base", "model") == "someone/base@old"


def test_given_checkpoints_leave_the_organism_out_of_the_key(tmp_path):
    own = {"base": "b", "distilled": "d", "zero_rl": "z"}
    stage = STAGES[0]
    one, two = (stage_config(stage, check_config({"checkpoints": own, "task": {"terms": n}}, "here")) for n in (4, 5))
    assert one == two
    assert stage_config(stage, check_config({"task": {"terms": 4}}, "here")) != stage_config(
        stage, check_config({}, "here")
    )


@pytest.mark.parametrize(
    ("traces", "complaint"),
    [
        ({"file": "nowhere.jsonl"}, r"nowhere\.jsonl: no such file"),
        ({"file": "half.jsonl"}, r"half\.jsonl:2: no column 'answer'"),
        ({"lexicon": "words.json"}, r"words\.json: KeyError\('name'\)"),
    ],
)
def test_bad_files_are_refused_before_any_stage_runs(tmp_path, monkeypatch, ran, traces, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half.jsonl").write_text('{"question": "1 + 1", "answer": 2}\n{"question": "1 + 2"}\n')
    (tmp_path / "words.json").write_text("{}")
    with pytest.raises(InterpError, match=complaint):
        run_study(study(tmp_path / "out", traces=traces), say=silent)
    assert not ran
    assert not (tmp_path / "out").exists()
