"""Checkpoints on disk that cannot be compared, or cannot be read."""

import json
import shutil

import pytest
import specials
import torch
from safetensors.torch import load_file, save_file
from small import small_model

from interp.errors import InterpError
from interp.models.trio import disagreeing_ids, load_model, open_trio, pick_device, read_end_ids, read_tokenizer
from interp.organisms.chains import CHAINS
from interp.organisms.tokenizers import vocabulary

CPU = torch.device("cpu")
NAMES = ("base", "distilled", "zero_rl")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(NAMES):
        small_model(seed).save_pretrained(root / name)
        CHAINS.tokenizer().save_pretrained(root / name)
    return root


@pytest.fixture
def paths(originals, tmp_path):
    shutil.copytree(originals, tmp_path / "trio")
    return {name: str(tmp_path / "trio" / name) for name in NAMES}


def refusal(call, *args):
    with pytest.raises(InterpError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_trio_is_opened_and_its_models_are_those_that_were_saved(paths):
    trio = open_trio(paths)
    assert trio.names == list(NAMES)
    assert (trio.n_layers, trio.d_model) == (3, 16)
    assert trio.masked_ids == ()
    text = "Q 7 + 5 A wait , 7 + 5 = 2 #### 2"
    ids = trio.tokenizer.encode(text, add_special_tokens=False)
    assert trio.tokenizer.decode(ids) == text
    for seed, name in enumerate(NAMES):
        saved, loaded = small_model(seed), load_model(name, paths[name], CPU)
        assert not loaded.training
        for (key, a), (_, b) in zip(saved.state_dict().items(), loaded.state_dict().items(), strict=True):
            assert torch.equal(a, b), key


def test_a_folder_that_is_not_there(paths):
    line = refusal(open_trio, paths | {"zero_rl": paths["base"] + "-gone"})
    assert "checkpoints.zero_rl" in line and "does not exist" in line and paths["base"] + "-gone" in line


def test_a_folder_without_a_config(paths, tmp_path):
    (tmp_path / "trio" / "distilled" / "config.json").unlink()
    line = refusal(open_trio, paths)
    assert "checkpoints.distilled" in line and "no config.json" in line


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "nonesuch"}'])
def test_a_config_that_cannot_be_read(paths, tmp_path, text):
    (tmp_path / "trio" / "base" / "config.json").write_text(text)
    assert "checkpoints.base" in refusal(open_trio, paths)


@pytest.mark.parametrize(
    ("key", "shape", "values"),
    [
        ("hidden_size", {"d_model": 24}, (16, 24)),
        ("num_hidden_layers", {"layers": 2}, (3, 2)),
    ],
)
def test_widths_and_depths_that_differ_are_named_with_both_values(paths, key, shape, values):
    small_model(1, **shape).save_pretrained(paths["distilled"])
    line = refusal(open_trio, paths)
    assert f"{key} differs: base {values[0]}, distilled {values[1]}, zero_rl {values[0]}" in line


def with_pieces(changes):
    """A word-level tokenizer some of whose ids have other pieces."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = {i: changes.get(i, piece) for i, piece in enumerate(vocabulary(CHAINS.tokenizer()))}
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in pieces.items()}, unk_token=pieces[2]))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pieces[0], eos_token=pieces[1], unk_token=pieces[2]
    )


def test_special_ids_that_mean_different_things_are_masked():
    tokenizers = {"base": with_pieces({}), "distilled": with_pieces({0: "<think>", 2: "<|other|>"})}
    assert disagreeing_ids(tokenizers) == (0, 2)
    assert disagreeing_ids({name: with_pieces({}) for name in NAMES}) == ()


def test_a_trio_like_qwen_and_its_distillation(tmp_path):
    """Re-used special slots are masked, each model keeps its own template and its own end tokens."""
    trio, slots = open_trio(specials.save_trio(tmp_path)), specials.slots()
    assert trio.masked_ids == tuple(slots)
    assert {name: t.chat_template for name, t in trio.tokenizers.items()} == {
        "base": specials.QWEN_TEMPLATE,
        "distilled": specials.R1_TEMPLATE,
        "zero_rl": specials.QWEN_TEMPLATE,
    }
    assert trio.end_ids == {"base": (slots[0], slots[2]), "distilled": (slots[0],), "zero_rl": (slots[0], slots[2])}
    assert trio.pieces(slots[4]) == "'<|box_start|>' / '<think>'"
    assert trio.pieces(3) == repr(trio.tokenizer.convert_ids_to_tokens(3))
    assert trio.tokenizer is trio.tokenizers["distilled"]


@pytest.mark.parametrize(
    ("stated", "ends"),
    [
        (None, (1,)),
        ({}, (1,)),
        ({"eos_token_id": None}, (1,)),
        ({"eos_token_id": 1}, (1,)),
        ({"eos_token_id": 7}, (1, 7)),
        ({"eos_token_id": 0}, (0, 1)),
        ({"eos_token_id": [9, 1, 4]}, (1, 4, 9)),
    ],
)
@pytest.mark.parametrize("adapters", [False, True])
def test_end_tokens_are_the_tokenizers_and_those_of_the_generation_config(paths, tmp_path, stated, ends, adapters):
    file, path = tmp_path / "trio" / "base" / "generation_config.json", paths["base"]
    file.unlink() if stated is None else file.write_text(json.dumps(stated))
    if adapters:
        path = str(tmp_path / "adapters")
        (tmp_path / "adapters").mkdir()
        (tmp_path / "adapters" / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": paths["base"]})
        )
        (tmp_path / "adapters" / "generation_config.json").write_text(json.dumps({"eos_token_id": 12}))
    assert read_end_ids("base", path, CHAINS.tokenizer()) == ends


@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": "<eos>"}', '{"eos_token_id": [-1]}'])
def test_a_generation_config_that_cannot_be_read_is_named(paths, tmp_path, text):
    (tmp_path / "trio" / "zero_rl" / "generation_config.json").write_text(text)
    assert "zero_rl/generation_config.json" in refusal(open_trio, paths)


def test_ordinary_ids_that_differ_are_refused_and_the_first_ten_named():
    swapped = {i: f"other{i}" for i in range(5, 20)}
    line = refusal(disagreeing_ids, {"base": with_pieces({}), "distilled": with_pieces(swapped)})
    assert "15 ordinary ids" in line
    for i in range(5, 15):
        assert f"{i} ({vocabulary(CHAINS.tokenizer())[i]!r} / 'other{i}')" in line
    assert "other15" not in line


@pytest.mark.parametrize("without", [("distilled",), NAMES])
def test_a_tokenizer_that_is_not_there(paths, tmp_path, without):
    """transformers 5 makes up an empty one, of one token; where none has any, they even agree."""
    for name in without:
        for file in (tmp_path / "trio" / name).glob("tokenizer*"):
            file.unlink()
    line = refusal(open_trio, paths)
    assert f"checkpoints.{without[0]}" in line and "no tokenizer" in line


def test_a_tokenizer_without_an_end(paths, tmp_path):
    folder = tmp_path / "trio" / "base"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["eos_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert "no end token" in refusal(read_tokenizer, "base", paths["base"])


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_damaged_weights_are_named(paths, tmp_path, damage):
    file = tmp_path / "trio" / "zero_rl" / "model.safetensors"
    whole = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"not weights at all")
    line = refusal(load_model, "zero_rl", paths["zero_rl"], CPU)
    assert "checkpoints.zero_rl" in line and "weights cannot be read" in line


def test_weights_that_lack_a_tensor_are_refused(paths, tmp_path):
    """transformers would fill it with random numbers and only warn."""
    file = tmp_path / "trio" / "base" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    assert "checkpoints.base" in refusal(load_model, "base", paths["base"], CPU)


def test_devices():
    assert pick_device("cpu") == CPU
    if not torch.cuda.is_available():
        assert pick_device("auto") == CPU
        assert "device = cuda" in refusal(pick_device, "cuda")
