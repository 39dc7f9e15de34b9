"""Weights and adapters on disk that are not what they must be: each is refused in one line, none is half loaded."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from interp.errors import InterpError
from interp.models.trio import load_model, read_model_config
from interp.models.weights import read_weights
from tests.small import small_model

CPU = torch.device("cpu")
IDS = torch.tensor([[3, 4, 5, 9, 14]])
MATRIX = "model.layers.1.mlp.up_proj.weight"
LORA = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"


def rewrite(file, change):
    tensors = load_file(file)
    save_file({key: t.clone().contiguous() for key, t in change(tensors).items()}, file, metadata={"format": "pt"})


def refusal(path):
    with pytest.raises(InterpError) as caught:
        load_model("distilled", str(path), CPU)
    line = str(caught.value)
    assert line.startswith(f"checkpoints.distilled = {path}: ") and "\n" not in line and ";" in line
    return line


def replaced(key, tensor):
    return lambda tensors: tensors | {key: tensor}


def each(change):
    return lambda tensors: {key: change(tensor) for key, tensor in tensors.items()}


def half(tensors):
    return {key: t for key, t in tensors.items() if "layers.0" in key}


def without(key):
    return lambda tensors: {k: t for k, t in tensors.items() if k != key}


def elsewhere(old, new):
    return lambda tensors: {key.replace(old, new): t for key, t in tensors.items()}


NAN, INF = torch.full((4, 64), float("nan")), torch.full((64, 4), float("inf"))

ADAPTERS = {
    "every key under another prefix": (elsewhere("base_model.model.model", "model.model"), "the adapters lack"),
    "a tensor missing": (without(LORA), r"the adapters lack .*layers\.1\.mlp\.up_proj\.lora_B"),
    "half of the tensors": (half, r"the adapters lack .*and 25 more"),
    "one tensor of nothing": (lambda tensors: {"nothing": torch.ones(1)}, r"the adapters lack .*and 39 more"),
    "tensors of a layer that is not there": (
        lambda t: t | elsewhere("layers.1", "layers.7")(t),
        r"the adapters belong to layers that the model lacks: .*layers\.7.*and 11 more",
    ),
    "NaN": (replaced(LORA, NAN.T.contiguous()), "lora_B.* NaN or infinite"),
    "infinite values": (replaced(LORA, INF), "lora_B.* NaN or infinite"),
    "whole numbers": (replaced(LORA, torch.ones(64, 4, dtype=torch.int64)), "lora_B.*int64"),
    "complex numbers": (replaced(LORA, torch.ones(64, 4, dtype=torch.complex64)), "lora_B.*complex64"),
    "another shape": (replaced(LORA, torch.ones(63, 4)), r"the adapters cannot be read .*size mismatch .*lora_B"),
}


@pytest.mark.parametrize("damage", ADAPTERS)
def test_adapters_that_are_not_the_models_own_are_refused(damage, adapters):
    change, says = ADAPTERS[damage]
    rewrite(adapters[1] / "adapter_model.safetensors", change)
    assert_matches(says, refusal(adapters[1]))


def assert_matches(pattern, line):
    import re

    assert re.search(pattern, line), line


@pytest.mark.parametrize("kind", ["LOHA", "IA3", None])
def test_adapters_of_another_kind_are_refused(kind, adapters):
    file = adapters[1] / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": kind}))
    assert f"peft_type is {kind} and only LORA is read" in refusal(adapters[1])


def test_adapters_with_a_saved_embedding_are_whole(adapters):
    """peft saves the embedding with the adapters after the vocabulary was resized."""
    adapted, folder = adapters
    key = "base_model.model.model.embed_tokens.weight"
    table = torch.randn(adapted.get_input_embeddings().weight.shape, generator=torch.Generator().manual_seed(0))
    rewrite(folder / "adapter_model.safetensors", replaced(key, table))
    assert torch.equal(load_model("distilled", str(folder), CPU).get_input_embeddings().weight, table)


WEIGHTS = {
    "NaN": (replaced(MATRIX, torch.full((64, 16), float("nan"))), rf"{MATRIX} holds NaN or infinite"),
    "zeros": (each(torch.zeros_like), "every matrix is zero"),
    "whole numbers": (each(lambda t: (10 * t).long()), r"is of type I64"),
    "complex numbers": (each(lambda t: t.to(torch.complex64)), r"is of type C64|cannot be read"),
    "one matrix of whole numbers": (replaced(MATRIX, torch.ones(64, 16, dtype=torch.int32)), rf"{MATRIX} is of.* I32"),
    "another shape": (replaced(MATRIX, torch.ones(60, 16)), rf"the weights have another shape in {MATRIX}"),
    "a tensor missing": (without(MATRIX), rf"the weights lack {MATRIX}"),
}


@pytest.mark.parametrize("damage", WEIGHTS)
def test_weights_that_are_not_a_models_are_refused(damage, base):
    change, says = WEIGHTS[damage]
    rewrite(base / "model.safetensors", change)
    assert_matches(says, refusal(base))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_floating_type_are_read(dtype, base):
    rewrite(base / "model.safetensors", each(lambda t: t.to(dtype)))
    loaded = load_model("distilled", str(base), CPU)
    for (key, a), b in zip(small_model(0).named_parameters(), loaded.parameters(), strict=True):
        assert b.dtype == torch.float32
        assert_close(a.to(dtype).float(), b, atol=0, rtol=0, msg=key)


def test_a_buffer_may_be_of_any_type(tmp_path):
    """Older GPT-2 files hold the causal mask as bytes, which is no parameter."""
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    rewrite(tmp_path / "model.safetensors", replaced("transformer.h.0.attn.bias", torch.ones(4, 4, dtype=torch.uint8)))
    assert load_model("base", str(tmp_path), CPU).config.n_embd == 8


class Evil:
    def __reduce__(self):
        return (print, ("code that was run",))


def test_a_pickle_with_code_is_refused_and_not_run(base, capfd):
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    assert "could run code" in refusal(base)
    torch.save({MATRIX: Evil()}, base / "pytorch_model.bin")
    assert "could run code" in refusal(base)
    assert "code that was run" not in "".join(capfd.readouterr())


CONFIGS = ["null", "3", "[]", *(json.dumps(change) for change in (
    {"num_hidden_layers": 5},
    {"hidden_size": "16"},
    {"dtype": "nonsense"},
    {"layer_types": ["nonsense"]},
    {"max_position_embeddings": "many"},
    {"rope_parameters": 3},
    {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}},
))]  # fmt: skip


@pytest.mark.parametrize("change", CONFIGS)
def test_configs_of_wrong_types_are_one_line(change, base):
    file, wrong = base / "config.json", json.loads(change)
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong) if isinstance(wrong, dict) else change)
    with pytest.raises(InterpError) as caught:
        read_model_config("base", str(base))
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"checkpoints.base = {base}: its config cannot be read (")
    assert "trust_remote_code" not in line


def test_adapters_are_merged_before_training_goes_on(adapters):
    """A base of further training is the merged model, not the one below its adapters."""
    adapted, folder = adapters
    merged = read_weights("base", str(folder), torch.float32)
    with torch.inference_mode():
        assert_close(merged(input_ids=IDS).logits, adapted.eval()(input_ids=IDS).logits, atol=1e-4, rtol=1e-4)
