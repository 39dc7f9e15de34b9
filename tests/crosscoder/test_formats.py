import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.crosscoder import Crosscoder
from interp.errors import InterpError

from .samples import CONFIG, random_crosscoder, random_rows


@pytest.fixture
def saved(tmp_path):
    """A crosscoder and the folder that holds it."""
    crosscoder = random_crosscoder()
    values = torch.linspace(0.3, 2.0, 999)
    crosscoder.scale.copy_(values[1 / (1 / values) != values][::50][:3])  # that dividing twice would not bring back
    crosscoder.save(tmp_path / "new" / "folder")
    return crosscoder, tmp_path / "new" / "folder"


@torch.no_grad()
def test_what_is_loaded_is_the_same_to_the_bit(saved):
    crosscoder, folder = saved
    loaded = Crosscoder.load(folder)
    assert loaded.config == crosscoder.config
    for name, tensor in crosscoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    x = random_rows(64)
    f = crosscoder.encode(x)
    assert (f > 0).any() and torch.equal(loaded.encode(x), f)
    assert torch.equal(loaded.decode(f), crosscoder.decode(f))
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_names_shapes_and_types_are_format_1(saved):
    tensors = {
        name: (tuple(tensor.shape), tensor.dtype) for name, tensor in load_file(saved[1] / "model.safetensors").items()
    }
    f32 = torch.float32
    assert tensors == {
        "encoder.weight": ((3, 8, 40), f32),
        "encoder.bias": ((40,), f32),
        "decoder.weight": ((3, 40, 8), f32),
        "decoder.bias": ((3, 8), f32),
        "code_normalization_id": ((), torch.int64),
        "activation_mean": ((3, 8), f32),
        "activation_std": ((3, 8), f32),
        "activation_global_scale": ((3,), f32),
        "target_rms": ((), f32),
        "k": ((), torch.int32),
        "threshold": ((), f32),
    }
    config = json.loads((saved[1] / "config.json").read_text())
    assert config == {"num_layers": 3, "activation_dim": 8, "dict_size": 40, "k": 4}


@pytest.mark.parametrize("way", ["global scale", "deviations", "target rms"])
@torch.no_grad()
def test_an_outside_reader_gets_the_same_code_whichever_way_it_normalises(saved, way):
    crosscoder, folder = saved
    t, x = load_file(folder / "model.safetensors"), random_rows(50)
    factor = {
        "global scale": t["activation_global_scale"][:, None],
        "deviations": 1 / (t["activation_std"] + 1e-8),
        "target rms": (t["target_rms"] / (t["activation_std"].square().sum(1) + 1e-8).sqrt())[:, None],
    }[way]
    x_hat = (x - t["activation_mean"]) * factor
    f = (torch.einsum("bnd,ndl->bl", x_hat, t["encoder.weight"]) + t["encoder.bias"]).relu()
    f = f * (f * t["decoder.weight"].norm(dim=2).sum(0) > t["threshold"])
    torch.testing.assert_close(f, crosscoder.encode(x), atol=1e-4, rtol=1e-4)
    decoded = torch.einsum("bl,nld->bnd", f, t["decoder.weight"]) + t["decoder.bias"]
    torch.testing.assert_close(
        decoded / factor + t["activation_mean"], crosscoder.decode(crosscoder.encode(x)), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved[1] / name).unlink()
    with pytest.raises(InterpError, match=f"there is no {name}"):
        Crosscoder.load(saved[1])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InterpError, match=r"nowhere: there is no config\.json"):
        Crosscoder.load(tmp_path / "nowhere")


def with_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("threshold"), "threshold missing"),
        (lambda t: t.update(W_skip=torch.zeros(2)), "unknown tensors W_skip"),
        (lambda t: t.update({"encoder.bias": torch.zeros(41)}), r"encoder.bias has shape \[41\].*\[40\]"),
        (lambda t: t.update({"decoder.weight": torch.zeros(40, 3, 8)}), r"decoder.weight has shape \[40, 3, 8\]"),
        (lambda t: t.update(k=torch.tensor(5, dtype=torch.int32)), "k is 5 where 4"),
        (lambda t: t.update(code_normalization_id=torch.tensor(2)), "code_normalization_id is 2"),
    ],
)
def test_other_tensors_are_refused(saved, change, said):
    with_tensors(saved[1], change)
    with pytest.raises(InterpError, match=said) as caught:
        Crosscoder.load(saved[1])
    assert "\n" not in str(caught.value) and str(saved[1]) in str(caught.value)


def test_a_torn_weights_file_is_refused(saved):
    path = saved[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InterpError, match="not a safetensors file"):
        Crosscoder.load(saved[1])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"num_layers": 3, "activation_dim": 8, "dict_size": 4, "k": 5}'])
def test_a_config_that_is_none_is_refused(saved, text):
    (saved[1] / "config.json").write_text(text)
    with pytest.raises(InterpError, match=r"config\.json: not a crosscoder's config") as caught:
        Crosscoder.load(saved[1])
    assert "\n" not in str(caught.value)


def test_target_rms_is_the_norm_of_a_normalised_row(saved):
    assert float(load_file(saved[1] / "model.safetensors")["target_rms"]) == pytest.approx(math.sqrt(CONFIG.d_model))
