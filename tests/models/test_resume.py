"""Which saved state a trainer resumes from."""

import json

import pytest

from interp.models.resume import newest_checkpoint


def save(folder, step, state=None):
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"weights")
    if state is not None:
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(state)


def whole(step):
    return json.dumps({"global_step": step, "log_history": []})


def test_without_states_there_is_none_and_nothing_is_said(tmp_path, capfd):
    assert newest_checkpoint(tmp_path) is None
    assert capfd.readouterr().err == ""


def test_the_newest_is_taken_by_number_and_the_others_are_removed(tmp_path, capfd):
    for step in (9, 10, 2):
        save(tmp_path, step, whole(step))
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]
    assert "resuming from checkpoint-10\n" in capfd.readouterr().err


@pytest.mark.parametrize("torn", [None, "", whole(12)[:-5], "{}", "[]", "null"])
def test_a_torn_one_is_passed_over_removed_and_named(torn, tmp_path, capfd):
    save(tmp_path, 8, whole(8))
    save(tmp_path, 12, torn)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-8"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-8"]
    said = " ".join(capfd.readouterr().err.split())
    assert "resuming from checkpoint-8; checkpoint-12 is incomplete and was removed" in said


def test_only_torn_ones_start_from_the_beginning(tmp_path, capfd):
    save(tmp_path, 4)
    assert newest_checkpoint(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert "resuming from the first update; checkpoint-4 is incomplete" in " ".join(capfd.readouterr().err.split())
