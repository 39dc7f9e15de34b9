"""A stage that is killed before any of its operations on files resumes to the same files, and repeats no finished
work."""

import os
import shutil
from types import SimpleNamespace

import pytest

from interp.config import check_config
from interp.errors import InterpError
from interp.folders import MANIFEST, atomic_folder, finish_unit, unit_is_finished, verify
from interp.pipeline import run_stage
from interp.study import Study
from tests.forks import killed_before


def study(root, seed=0):
    return Study(check_config({"seed": seed}, "here"), root)


def contents(folder):
    """Every file but the manifest, which holds times."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A stage of two units, a plain file and a training state; what it did is appended to a log outside the study."""
    log = tmp_path / "log"
    log.touch()

    def did(what):
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, f"{what}\n".encode())
        os.close(descriptor)

    def run(study, out):
        if not (out / "base").exists():
            (out / ".base.trainer").mkdir(exist_ok=True)
            did("base")
            with atomic_folder(out / "base") as draft:
                (draft / "model").write_text(f"weights {study.config.seed}")
                (draft / "config").write_text("config")
        if not unit_is_finished(out, "log"):
            did("log")
            (out / "loss").write_text(f"loss {study.config.seed}")
            finish_unit(out, "log", ["loss"])
        (out / "table").write_text("rows")
        did("end")
        return 1

    monkeypatch.setattr("interp.pipeline.import_module", lambda _: SimpleNamespace(run=run))
    return log


def silent(_):
    pass


def truth(seed):
    return {"base/model": f"weights {seed}", "base/config": "config", "loss": f"loss {seed}", "table": "rows"}


def begin(root, force):
    """A place in which the stage has not run, or a finished one of another seed that is replaced."""
    shutil.rmtree(root, ignore_errors=True)
    if force:
        run_stage(study(root), "checkpoints", say=silent)


@pytest.mark.parametrize("force", [False, True])
def test_killed_before_every_operation_it_ends_with_the_same_files_and_nothing_else(tmp_path, work, force):
    root, n, killed = tmp_path / "study", 0, True
    while killed:
        begin(root, force)
        work.write_text("")
        killed = killed_before(lambda: run_stage(study(root, 1), "checkpoints", force=force, say=silent), n, root)
        done = work.read_text().split()
        run_stage(study(root, 1), "checkpoints", force=force, say=silent)
        assert contents(root / "checkpoints") == truth(1), n
        assert [p.name for p in root.iterdir()] == ["checkpoints"], n
        verify(root / "checkpoints")
        again = work.read_text().split()[len(done) :]
        # A unit that was finished is not repeated; that "log" began shows that "base" was finished.
        assert not ("log" in done and "base" in again) and not ("end" in done and "log" in again), n
        n += 1
    assert n > 40


def test_a_replacement_that_is_killed_loses_neither_the_old_results_nor_the_new(tmp_path, work):
    """Without `--force` the next run finds the old ones, or the new ones if they were complete and in place; where the
    new ones were complete, `--force` puts them in place without any work."""
    root, n, killed, complete = tmp_path / "study", 0, True, 0
    while killed:
        begin(root, force=True)
        work.write_text("")
        killed = killed_before(lambda: run_stage(study(root, 1), "checkpoints", force=True, say=silent), n, root)
        before = work.read_text()
        try:
            assert not run_stage(study(root), "checkpoints", say=silent), n
            assert contents(root / "checkpoints") == truth(0), n
        except InterpError as error:
            assert "seed = 1, now 0" in str(error)
            assert contents(root / "checkpoints") == truth(1), n
        assert not (root / ".checkpoints.old").exists(), n
        scratch = root / ".checkpoints.partial"
        if scratch.exists() and (scratch / MANIFEST).exists():
            complete += 1
            run_stage(study(root, 1), "checkpoints", force=True, say=silent)
            assert work.read_text() == before, n
            assert contents(root / "checkpoints") == truth(1), n
        n += 1
    assert complete > 5


def test_a_finished_folder_that_was_not_tidied_is_tidied(tmp_path, work):
    root = tmp_path / "study"
    run_stage(study(root), "checkpoints", say=silent)
    (root / "checkpoints" / ".key").write_text("left")
    shutil.copytree(root / "checkpoints", root / ".checkpoints.old")
    (root / ".checkpoints.old").chmod(0o500)
    assert not run_stage(study(root), "checkpoints", say=silent)
    assert contents(root / "checkpoints") == truth(0)
    assert [p.name for p in root.iterdir()] == ["checkpoints"]


def test_old_results_that_cannot_be_removed_are_named_and_do_no_harm(tmp_path, work, monkeypatch, capsys):
    root = tmp_path / "study"
    run_stage(study(root), "checkpoints", say=silent)
    real = shutil.rmtree

    def refuses(path, *rest, **options):
        if str(path).endswith(".old"):
            raise PermissionError(13, "Permission denied")
        real(path, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr("interp.disk.shutil.rmtree", refuses)
        assert run_stage(study(root, 1), "checkpoints", force=True, say=silent)
    assert contents(root / "checkpoints") == truth(1)
    assert ".checkpoints.old" in "".join(capsys.readouterr().err.split())
    assert not run_stage(study(root, 1), "checkpoints", say=silent)
    assert [p.name for p in root.iterdir()] == ["checkpoints"]
