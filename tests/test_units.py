"""Parts of a stage that are complete or absent, and are not repeated, nor trusted when they are damaged."""

import os
import signal
import socket

import pytest

from interp.folders import atomic_folder, finish_unit, publish, unit_is_finished, writing
from tests.forks import in_child, status


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def model(path, text="weights"):
    with atomic_folder(path) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "model").write_text(text)
        (draft / "config").write_text("config")


def test_an_inner_folder_is_complete_or_absent(tmp_path):
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "model") as draft:
        (draft / "half").write_text("half")
        raise RuntimeError
    assert not (tmp_path / "model").exists()
    with atomic_folder(tmp_path / "model") as draft:
        assert names(draft) == []
        (draft / "whole").write_text("whole")
    assert names(tmp_path) == ["model"]


def test_two_that_make_the_same_folder_do_not_mix(tmp_path):
    """As two first runs that fetch one model into the cache: whole is what the first to end wrote."""
    with atomic_folder(tmp_path / "model") as draft:
        (draft / "part0").write_text("mine")
        assert status(in_child(lambda: model(tmp_path / "model", "theirs"))) == 0
        (draft / "part1").write_text("mine")
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["config", "inner"]


def test_drafts_of_ended_processes_are_removed_and_of_others_not(tmp_path):
    ended = in_child(lambda: None)
    assert status(ended) == 0
    here = socket.gethostname()
    kept = (f".model.draft-{here}-{os.getppid()}", ".model.draft-another-machine-1", f".mode.draft-{here}-{ended}")
    for name in (*kept, f".model.draft-{here}-{ended}"):
        (tmp_path / name).mkdir()
    model(tmp_path / "model")
    assert names(tmp_path) == sorted((*kept, "model"))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def test_drafts_and_states_are_never_published(tmp_path):
    def killed():
        with writing(tmp_path / "checkpoints", "k") as scratch, atomic_folder(scratch / "base") as draft:
            (draft / "half").write_text("half")
            (scratch / ".base.trainer").mkdir()
            kill()

    assert status(in_child(killed)) == -signal.SIGKILL
    with writing(tmp_path / "checkpoints", "k") as scratch:
        assert not (scratch / "base").exists()
        model(scratch / "control")
        publish(scratch, tmp_path / "checkpoints", {"config_hash": "k"})
    assert names(tmp_path / "checkpoints") == ["control", "manifest.json"]


@pytest.fixture
def interrupted(tmp_path):
    """The scratch folder of a run that was killed after two models and a unit of two files were finished."""

    def killed():
        with writing(tmp_path / "checkpoints", "k") as scratch:
            model(scratch / "base")
            model(scratch / "control")
            for name in ("weights", "log"):
                (scratch / name).write_text(name)
            finish_unit(scratch, "trained", ["weights", "log"])
            kill()

    assert status(in_child(killed)) == -signal.SIGKILL
    return tmp_path / ".checkpoints.partial"


def resumed(scratch):
    with writing(scratch.parent / "checkpoints", "k") as found:
        assert found == scratch
        left = {name for name in ("base", "control", "weights", "log") if (scratch / name).exists()}
        return left | {"trained"} if unit_is_finished(scratch, "trained") else left


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


WHOLE = {"base", "control", "weights", "log", "trained"}


def test_finished_units_are_found_again(interrupted, capsys):
    assert resumed(interrupted) == WHOLE
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("base/inner/model", {"base"}),
        ("base/config", {"base"}),
        ("control/config", {"control"}),
        ("weights", {"weights", "log", "trained"}),
        ("log", {"weights", "log", "trained"}),
        (".base.unit", {"base"}),
        (".trained.unit", {"trained"}),
    ],
)
@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(b"")])
def test_a_damaged_unit_is_dropped_and_named(interrupted, capsys, file, lost, damage):
    damage(interrupted / file)
    assert resumed(interrupted) == WHOLE - lost
    if file != ".trained.unit":
        said = " ".join(capsys.readouterr().err.split())
        assert "is damaged since it was written" in said


def test_a_missing_file_is_damage(interrupted):
    (interrupted / "control" / "config").unlink()
    assert resumed(interrupted) == WHOLE - {"control"}


def test_a_unit_that_was_killed_before_its_rename_is_absent_without_a_word(interrupted, capsys):
    (interrupted / "base").rename(interrupted / ".base.draft-killed")
    assert resumed(interrupted) == WHOLE - {"base"}
    assert capsys.readouterr().err == ""
