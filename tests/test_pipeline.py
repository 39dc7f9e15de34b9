"""The order of the stages and what decides whether one runs, with stages that write a line instead of a model."""

import json
from types import SimpleNamespace

import pytest

from interp.config import check_config
from interp.errors import InterpError
from interp.folders import MANIFEST, read_manifest
from interp.pipeline import STAGES, run_stage, run_study, stage_config
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
    run_stage(study(tmp_path, activations={"layer": 0}), "activations", force=True, say=silent)
    with pytest.raises(InterpError, match="another activations"):
        run_stage(study(tmp_path, activations={"layer": 0}), "crosscoder", say=silent)


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
