import contextlib
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from interp.disk import disk_errors
from interp.errors import InterpError
from interp.folders import (
    MANIFEST,
    commit,
    digest,
    existing_parent,
    file_digest,
    publish,
    read_manifest,
    refuse_if_short,
    verify,
    writing,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def complete(folder, files=None, key="k"):
    with writing(folder, key) as scratch:
        for name, text in (files or {"a.txt": "a", "deep/b.txt": "b"}).items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_text(text)
        publish(scratch, folder, {"config_hash": key})
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_published_folder_holds_its_files_and_their_checksums(tmp_path):
    folder = complete(tmp_path / "out" / "traces")
    assert set(contents(folder)) == {"a.txt", "deep/b.txt", MANIFEST}
    manifest = read_manifest(folder)
    assert manifest == {
        "config_hash": "k",
        "files": {name: file_digest(folder / name) for name in ("a.txt", "deep/b.txt")},
        "stats": {name: [1, (folder / name).stat().st_mtime_ns] for name in ("a.txt", "deep/b.txt")},
    }
    verify(folder)
    assert names(tmp_path / "out") == ["traces"]


def test_until_it_is_published_there_is_no_folder(tmp_path):
    folder = tmp_path / "traces"
    with pytest.raises(RuntimeError), writing(folder, "k") as scratch:
        (scratch / "half.txt").write_text("half")
        assert not folder.exists()
        raise RuntimeError("killed")
    assert not folder.exists()
    assert read_manifest(folder) is None


def test_replacing_leaves_nothing_of_the_old(tmp_path):
    folder = complete(tmp_path / "traces", {"old.txt": "old", "both.txt": "old"})
    complete(folder, {"both.txt": "new"}, key="k2")
    assert {n: t for n, t in contents(folder).items() if n != MANIFEST} == {"both.txt": "new"}
    assert names(tmp_path) == ["traces"]
    verify(folder)


def test_while_a_folder_is_rewritten_the_old_one_stands(tmp_path):
    folder = complete(tmp_path / "traces", {"old.txt": "old"})
    before = contents(folder)
    with pytest.raises(KeyboardInterrupt), writing(folder, "k2") as scratch:
        (scratch / "new.txt").write_text("new")
        raise KeyboardInterrupt
    assert contents(folder) == before


def interrupted(folder, key, files):
    with pytest.raises(KeyboardInterrupt), writing(folder, key) as scratch:
        for name in files:
            (scratch / name).write_text(name)
        raise KeyboardInterrupt


def test_interrupted_work_is_found_again_under_the_same_key_only(tmp_path):
    folder = tmp_path / "traces"
    interrupted(folder, "k", ["done"])
    with writing(folder, "k") as scratch:
        assert (scratch / "done").read_text() == "done"
        publish(scratch, folder, {"config_hash": "k"})
    assert set(contents(folder)) == {"done", MANIFEST}
    shutil.rmtree(folder)
    interrupted(folder, "k", ["done"])
    with writing(folder, "other") as scratch:
        assert names(scratch) == [".key"]


def test_scratch_without_a_key_is_not_trusted(tmp_path):
    scratch = tmp_path / ".traces.partial"
    scratch.mkdir()
    (scratch / "of unknown origin").write_text("?")
    with writing(tmp_path / "traces", "k") as found:
        assert found == scratch
        assert names(found) == [".key"]


def test_work_that_is_interrupted_while_it_is_published_is_kept(tmp_path, monkeypatch):
    """Checksums of gigabytes take a while, and the disk may be full when the manifest is written."""
    folder = tmp_path / "traces"

    def stopped(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("interp.folders.file_digest", stopped)
        with pytest.raises(KeyboardInterrupt):
            complete(folder)
    assert not folder.exists()
    with writing(folder, "k") as scratch:
        assert (scratch / "a.txt").exists()


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_damage_is_named(tmp_path, damage):
    folder = complete(tmp_path / "traces")
    path = folder / "deep" / "b.txt"
    path.unlink() if damage == "missing" else path.write_text("B")
    with pytest.raises(InterpError) as caught:
        verify(folder)
    assert str(path) in str(caught.value)
    assert damage in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_any_file_is_named(tmp_path):
    """Also where size and time are those recorded."""
    folder = complete(tmp_path / "traces", {"a.txt": "some text", "deep/b.txt": "more of it"})
    for path in (folder / "a.txt", folder / "deep" / "b.txt"):
        whole, stat = path.read_bytes(), path.stat()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            with pytest.raises(InterpError, match=f"{path} is altered"):
                verify(folder)
        path.write_bytes(whole)
    verify(folder)


def test_of_a_large_folder_only_files_that_look_changed_are_read(tmp_path, monkeypatch):
    folder, read = complete(tmp_path / "traces"), []
    monkeypatch.setattr("interp.folders.HASHED_WHOLE", 1)
    monkeypatch.setattr("interp.folders.file_digest", lambda path: read.append(path.name) or file_digest(path))
    verify(folder)
    assert read == []
    os.utime(folder / "a.txt", ns=(0, 0))
    verify(folder)
    assert read == ["a.txt"]
    (folder / "deep" / "b.txt").write_text("longer")
    with pytest.raises(InterpError, match="altered"):
        verify(folder)


def test_any_flipped_bit_of_a_manifest_is_named(tmp_path):
    folder = complete(tmp_path / "traces")
    path = folder / MANIFEST
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InterpError, match=MANIFEST) as caught:
            verify(folder)
    assert "--force" not in str(caught.value)
    path.write_bytes(whole)
    verify(folder)


@pytest.mark.parametrize("text", ["", '{"files": {', "[]", "{}", None])
def test_a_damaged_manifest_is_named(tmp_path, text):
    folder = complete(tmp_path / "traces")
    (folder / MANIFEST).unlink() if text is None else (folder / MANIFEST).write_text(text)
    with pytest.raises(InterpError, match=MANIFEST):
        verify(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InterpError, match="interp traces"):
        verify(tmp_path / "traces")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line(tmp_path, number):
    with pytest.raises(InterpError, match="disk is full") as caught, disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_librarys_own_word_for_a_full_disk_is_understood_and_other_errors_pass(tmp_path):
    with pytest.raises(InterpError, match="disk is full"), disk_errors(tmp_path):
        raise RuntimeError("Error: I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="other"), disk_errors(tmp_path):
        raise RuntimeError("other")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", place], check=True)


def write_bytes(path):
    path.write_bytes(bytes(2_000_000))


def write_tensors(path):
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.ones(500_000)}, path)


def write_table(path):
    import numpy as np
    import polars as pl

    pl.DataFrame({"x": np.random.default_rng(0).random(300_000)}).write_parquet(path)


@pytest.mark.parametrize("write", [write_bytes, write_tensors, write_table])
def test_a_really_full_disk(small_disk, write):
    """One line, whichever library finds out; the work done before is there when there is room again."""
    folder = small_disk / "study" / "traces"
    with pytest.raises(InterpError, match="disk is full") as caught, writing(folder, "k") as scratch:
        (scratch / "done.txt").write_text("done")
        write(scratch / "large")
    assert "\n" not in str(caught.value)
    assert not folder.exists()
    for left in (small_disk / "study").glob(".traces.partial/large"):
        left.unlink()
    with writing(folder, "k") as scratch:
        assert (scratch / "done.txt").read_text() == "done"
        publish(scratch, folder, {"config_hash": "k"})
    verify(folder)


def write_wide_table(path):
    """Its metadata alone does not fit, which polars reports as a transport error."""
    import polars as pl

    pl.DataFrame({f"column {i} {'x' * 40}": [float(i)] for i in range(60)}).write_parquet(path)


@pytest.mark.parametrize("write", [write_bytes, write_tensors, write_table, write_wide_table])
@pytest.mark.parametrize("room", [0, 8192])
def test_a_disk_that_was_full_before(small_disk, write, room):
    """Libraries then report it in other words, polars as a file out of specification."""
    folder = small_disk / "study" / "traces"
    with pytest.raises(InterpError, match="disk is full") as caught, writing(folder, "k") as scratch:
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(bytes(4096)):
                pass
        os.truncate(small_disk / "ballast", (small_disk / "ballast").stat().st_size - room)
        write(scratch / "large")
    assert "\n" not in str(caught.value)


def test_torchs_own_words_for_a_full_disk(tmp_path):
    import torch

    with pytest.raises(InterpError, match="disk is full"), disk_errors(tmp_path):
        torch.save({"x": torch.ones(500_000)}, "/dev/full")


def test_a_table_that_is_damaged_is_no_full_disk(tmp_path):
    import polars as pl

    pl.DataFrame({"x": list(range(1000))}).write_parquet(tmp_path / "table")
    whole = (tmp_path / "table").read_bytes()
    for damaged in (whole[:100], whole[:-8] + b"00000000", whole[:-100] + bytes(8) + whole[-92:], b"", b"PAR1"):
        (tmp_path / "table").write_bytes(damaged)
        with pytest.raises(pl.exceptions.PolarsError), disk_errors(tmp_path):
            pl.read_parquet(tmp_path / "table", glob=False)


def test_work_that_cannot_fit_is_refused_before_it_starts(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    refuse_if_short(tmp_path / "not" / "yet", free // 2, "the store")
    with pytest.raises(InterpError, match="the store needs") as caught:
        refuse_if_short(tmp_path / "not" / "yet", 10**18, "the store")
    assert f"{10**12:.0f} MB" in str(caught.value)


def test_small_sizes_are_not_rounded_to_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InterpError, match=r"needs 0\.250 MB and the disk has 0\.001 MB free"):
        refuse_if_short(tmp_path, 250_000, "the store")


def test_the_nearest_folder_that_exists(tmp_path):
    assert existing_parent(tmp_path / "a" / "b" / "c") == tmp_path


def test_the_commit_is_that_of_this_source():
    found = commit.__wrapped__()
    root = Path(__file__).parents[1]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    if head.returncode:
        assert found is None
    else:
        assert found is not None and head.stdout.startswith(found.removesuffix("-dirty"))


def test_without_git_or_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert commit.__wrapped__() is None
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.__wrapped__() is None


def test_equal_values_have_equal_digests():
    assert digest({"a": 1, "b": [1, 2]}) == digest(json.loads('{"b": [1, 2], "a": 1}'))
    assert len({digest(v) for v in ({"a": 1}, {"a": "1"}, {"a": 1.5}, {"b": 1}, [1], {"a": None})}) == 6


def test_a_files_digest_is_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
