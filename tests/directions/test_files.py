"""Own files come back to the bit; plain tensors are read where layer and site are known; all else is refused."""

import json
import os
import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file, safe_open, save_file

from interp.directions import load, load_all, save
from interp.errors import InterpError

from .examples import direction, directions, names, same_bits

POST = {"site": "resid_post"}


def refused(path, match, read=load, **given):
    with pytest.raises(InterpError, match=match) as caught:
        read(path, **given)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


@given(directions)
@settings(max_examples=25)
def test_what_is_saved_comes_back_to_the_bit(v):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.safetensors"
        save(v, path)
        loaded = load(path)
        assert loaded == v
        assert same_bits(loaded.vector, v.vector)
        assert load_all(path, d_model=v.d_model, site=v.site) == {v.layer: v}
        assert names(folder) == ["v.safetensors"]


def test_other_readers_find_tensor_and_evidence(tmp_path):
    save(direction(), tmp_path / "new" / "v.safetensors")
    assert load_file(tmp_path / "new" / "v.safetensors")["direction"].tolist() == [3.0, 4.0]
    with safe_open(tmp_path / "new" / "v.safetensors", "pt") as file:
        told = json.loads(file.metadata()["interp_direction"])
    assert told["provenance"]["evidence"]["dose"] == [[-0.1, 0.3], [0.1, 0.5]]
    assert (told["layer"], told["site"]) == (2, "resid_post")


def test_a_failed_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "v.safetensors"
    save(direction(), path)
    write_bytes = Path.write_bytes

    def fail(draft, whole):
        write_bytes(draft, whole[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InterpError, match="disk is full"):
        save(direction((1.0,)), path)
    assert load(path) == direction()
    assert names(tmp_path) == ["v.safetensors"]


def test_the_new_file_takes_the_place_of_the_old_one_and_others_may_read_it(tmp_path):
    """It is not written over it, which a reader could see half done."""
    path = tmp_path / "v.safetensors"
    save(direction(), path)
    (tmp_path / "old.safetensors").hardlink_to(path)
    save(direction((1.0, 2.0)), path)
    assert load(path) == direction((1.0, 2.0))
    assert load(tmp_path / "old.safetensors") == direction()
    (tmp_path / "any").touch()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    for path, match in (
        ("v.pt", r"does not end in \.safetensors"),
        ("folder.safetensors", "is a folder"),
        ("file/v.safetensors", "choose another place"),
    ):
        with pytest.raises(InterpError, match=match):
            save(direction(), tmp_path / path)


def described(**changed):
    """The metadata of a file of ours, changed."""
    with tempfile.TemporaryDirectory() as folder:
        save(direction(), Path(folder) / "v.safetensors")
        with safe_open(Path(folder) / "v.safetensors", "pt") as file:
            told = json.loads(file.metadata()["interp_direction"])
    return json.dumps({key: value for key, value in (told | changed).items() if value is not None})


@pytest.mark.parametrize(
    ("text", "tensor", "match"),
    [
        ("{", (3.0, 4.0), "metadata are damaged"),
        ("[]", (3.0, 4.0), "metadata are damaged"),
        ("[" * 100_000, (3.0, 4.0), "metadata are damaged"),
        (described(site=None), (3.0, 4.0), "metadata are damaged"),
        (described(version=2), (3.0, 4.0), "is of version 2"),
        (described(), (3.0, 5.0), "not the one that was saved"),
        (described(), torch.tensor([3.0, 4.0], dtype=torch.float64), "not the one that was saved"),
        (described(layer="2"), (3.0, 4.0), "layer '2' is not a block's number"),
        (described(site=["resid_post"]), (3.0, 4.0), "is not one of resid_pre"),
        (described(provenance=[]), (3.0, 4.0), "provenance: holds no names"),
        (described(provenance={"norm": -1}), (3.0, 4.0), "norm is -1"),
        (described(provenance={"parents": [{"parents": 3}]}), (3.0, 4.0), "must be a list"),
    ],
)
def test_altered_files_of_ours_are_refused(tmp_path, text, tensor, match):
    path = tmp_path / "v.safetensors"
    save_file({"direction": torch.as_tensor(tensor)}, path, {"interp_direction": text})
    refused(path, match)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    save(direction(), tmp_path / "v.safetensors")
    whole = (tmp_path / "v.safetensors").read_bytes()
    for length in range(0, len(whole), 53):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        refused(tmp_path / "cut.safetensors", "not a safetensors file")


def test_what_contradicts_the_file_is_refused(tmp_path):
    path = tmp_path / "v.safetensors"
    save(direction(), path)
    refused(path, "has 2 coordinates, not 64", d_model=64)
    refused(path, "holds layer 2, not 5", layer=5)
    refused(path, "holds layer 2, not 5", load_all, layer=5)
    refused(path, "site is given as resid_mid", site="resid_mid")
    refused(tmp_path / "none.safetensors", "no such file")
    refused(tmp_path, "no such file")
    (tmp_path / "v.svec").touch()
    refused(tmp_path / "v.svec", "no format of a direction ends so")


def write(path, held):
    save_file(held, path) if path.suffix == ".safetensors" else torch.save(held, path)
    return path


PLAIN = [".safetensors", ".pt", ".pth"]


@pytest.mark.parametrize("suffix", PLAIN)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_plain_tensor_needs_layer_and_site(tmp_path, suffix, dtype):
    path = write(tmp_path / f"v{suffix}", {"steering": torch.tensor([[1.5, -2.0]], dtype=dtype)})
    refused(path, "does not say at which site", layer=3)
    refused(path, "does not say to which layer", **POST)
    refused(path, "is not one of", layer=3, site="mlp")
    refused(path, "layer -1 is not a block's number", layer=-1, **POST)
    loaded = load(path, layer=3, site="resid_pre", d_model=2)
    assert loaded.hook_name == "blocks.3.hook_resid_pre"
    assert loaded.vector.tolist() == [1.5, -2.0]
    assert loaded.provenance.method == f"read from v{suffix}"
    assert (loaded.provenance.norm, len(loaded.provenance.evidence["sha256"])) == (2.5, 64)


NAMES = ["{}", "layer_{}", "layer{}", "layers.{}", "model.layers.{}", "blocks.{}", "direction.{}", "h.{}"]


@pytest.mark.parametrize("suffix", PLAIN)
@pytest.mark.parametrize("name", NAMES)
def test_tensors_named_by_layer(tmp_path, suffix, name):
    held = {name.format(12): torch.ones(3), name.format(7): torch.full((3,), 2.0)}
    path = write(tmp_path / f"v{suffix}", held)
    assert list(load_all(path, **POST)) == [7, 12]
    assert load(path, layer=7, **POST).vector.tolist() == [2.0] * 3
    refused(path, "holds layers 7, 12; give layer=", **POST)
    refused(path, "holds layers 7, 12; leave layer out", load_all, layer=7, **POST)
    refused(path, "holds layer 7, 12, not 8", layer=8, **POST)
    refused(path, "at which site")


def test_a_hooks_name_says_layer_and_site(tmp_path):
    path = write(tmp_path / "v.safetensors", {"blocks.4.hook_resid_mid": torch.ones(3)})
    assert load(path).hook_name == "blocks.4.hook_resid_mid"
    refused(path, "site is given as resid_pre", site="resid_pre")
    both = {"blocks.4.hook_resid_mid": torch.ones(3), "blocks.4.hook_resid_pre": torch.ones(3)}
    refused(write(tmp_path / "two.safetensors", both), "one layer at several sites")


def test_rows_of_one_tensor_are_layers(tmp_path):
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    for path in (write(tmp_path / "v.pt", rows), write(tmp_path / "v.safetensors", {"vectors": rows})):
        assert list(load_all(path, **POST)) == [1, 2]  # a row of zeros is no direction
        assert load(path, layer=2, **POST).vector.tolist() == [0.0, 2.0]
        refused(path, "at which site", layer=2)


def test_steering_vectors_dictionaries(tmp_path):
    activations = {5: torch.ones(2), 11: torch.tensor([1.0, 2.0])}
    assert list(load_all(write(tmp_path / "a.pt", activations), **POST)) == [5, 11]
    whole = {"layer_activations": activations, "layer_type": "decoder_block"}
    assert load(write(tmp_path / "b.pt", whole), layer=11).hook_name == "blocks.11.hook_resid_post"
    refused(tmp_path / "b.pt", "is not the residual resid_pre", layer=11, site="resid_pre")
    refused(write(tmp_path / "c.pt", whole | {"layer_type": "mlp"}), "'mlp' is not the residual", layer=5)


@pytest.mark.parametrize(
    ("held", "match"),
    [
        ({"3": torch.ones(2), "layer_3": torch.ones(2)}, "holds layer 3 twice"),
        ({"W": torch.ones(2), "b": torch.ones(2)}, "'W' names no layer"),
        ({"blocks.3.attn.hook_z": torch.ones(2), "1": torch.ones(2)}, "names no layer"),
        ({"3": torch.ones(2), "4": torch.ones(3)}, r"blocks\.4\.hook_resid_post has 3 coordinates, not 2"),
        ({"3": torch.ones(2, 2), "4": torch.ones(2)}, "one layer needs"),
        ({"3": torch.ones(2, dtype=torch.int32)}, r"is torch\.int32"),
        ({"3": torch.ones(2, 2, 2)}, r"shape \[2, 2, 2\]"),
        ({"3": torch.ones(0)}, r"shape \[0\]"),
        ({"3": torch.tensor([float("nan"), 1])}, "NaN"),
        ({"3": torch.zeros(2)}, "is zero"),
        ({"w": torch.zeros(3, 2)}, "holds no direction"),
        ({}, "holds no direction"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_plain_files_that_hold_no_directions_are_refused(tmp_path, suffix, held, match):
    refused(write(tmp_path / f"v{suffix}", held), match, load_all, **POST)


class Bomb:
    """What would make a folder when it is unpickled without the safeguard."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_needs_code_is_refused_and_runs_none(tmp_path):
    torch.save({3: torch.ones(2), "x": Bomb(tmp_path / "ran")}, tmp_path / "v.pt")
    refused(tmp_path / "v.pt", r"would run code \(posix\.mkdir\)", **POST)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol=2))
    refused(tmp_path / "plain.pt", "run code|cannot be read", **POST)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("held", "match"),
    [
        ({3: "text"}, "3 is no tensor but a str"),
        ("text", "its tensor is no tensor but a str"),
        ({-1: torch.ones(2), 3: torch.ones(2)}, "-1 names no layer"),
        ({True: torch.ones(2), 3: torch.ones(2)}, "True names no layer"),
        ({3: torch.ones(2).to_sparse()}, "is sparse"),
        ({3: torch.ones(1).expand(10**12)}, "repeats stored values"),
        ({3: torch.empty(3, device="meta")}, "without values"),
    ],
)
def test_odd_values_in_a_pickle_are_refused(tmp_path, held, match):
    refused(write(tmp_path / "v.pt", held), match, **POST)


def test_damaged_pickles_are_refused(tmp_path):
    whole = write(tmp_path / "v.pt", {3: torch.ones(64)}).read_bytes()
    for part in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-30]):
        (tmp_path / "cut.pt").write_bytes(part)
        refused(tmp_path / "cut.pt", "cannot be read", **POST)
