"""What cannot be read, or not exactly, is refused in one line that says where and how to mend it."""

import json
import os
import re

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from interp.crosscoder import Crosscoder
from interp.errors import InterpError

from . import published
from .published import CONFIG, L, save, weights
from .samples import random_crosscoder
from .test_formats_published import HOOKS, crosscode, crosscode_yaml, llamascopium, opd, save_crosscode, sparsify


def refused(source, match, **given):
    with pytest.raises(InterpError, match=match) as caught:
        Crosscoder.load(source, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_path_is_named(tmp_path):
    refused(tmp_path / "nowhere", "nowhere: no such file or folder; name one, or a hub id")
    refused(str(tmp_path / "nowhere"), "nowhere: no such file or folder; name one, or a hub id")


def test_a_path_object_is_never_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("looked up"))
    monkeypatch.chdir(tmp_path)
    refused(tmp_path.relative_to(tmp_path) / "owner" / "name", "no such file or folder")


def test_an_id_that_the_hub_does_not_give_is_named():
    refused("nobody-at-all/nothing", r"nobody-at-all/nothing: .*the hub did not give nobody-at-all/nothing \(.+\)")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the hub; what it was asked for."""
    asked = []

    def snapshot_download(name, **wanted):
        asked.append((name, wanted))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_an_id_is_its_first_two_parts_and_only_its_folder_is_fetched(tmp_path, hub):
    save(tmp_path / "layers.5" / "mlp", sparsify(weights(n=1)), {"k": 4}, "sae.safetensors", "cfg.json")
    crosscoder = Crosscoder.load("owner/name/layers.5/mlp")
    assert crosscoder.config.k == 4
    ((name, wanted),) = hub
    assert name == "owner/name"
    assert (
        "layers.5/mlp/*.safetensors" in wanted["allow_patterns"] and "layers.5/mlp/*.json" in wanted["allow_patterns"]
    )
    assert wanted["ignore_patterns"] == ["layers.5/mlp/*/*"]


def test_a_file_of_a_repository_can_be_named(tmp_path, hub):
    w = weights()
    save(tmp_path, {"W_enc": w.W_enc, "W_dec": w.W_dec, "b_enc": w.b_enc, "b_dec": w.b_dec}, weights_name="3.pt")
    assert Crosscoder.load("owner/name/3.pt", scales=(1.0, 1.0)).config.n_models == 2
    assert hub[0][1]["allow_patterns"] == ["3.pt", "*.json", "*.yaml"]


def test_a_repository_of_subfolders_asks_for_one(tmp_path, hub):
    refused("owner/name", "no weights.*name the folder, or its subfolder on the hub")
    refused("owner/name/wrong", "owner/name on the hub has no weights in wrong")


def test_a_folder_of_folders_names_them(tmp_path):
    save(tmp_path / "layers.5", sparsify(weights(n=1)), {"k": 4}, "sae.safetensors", "cfg.json")
    refused(tmp_path, "no weights.*its folders layers.5 have some")


def test_several_weights_are_named(tmp_path):
    for name in ("model_final.pt", "checkpoint_7.pt"):
        save(tmp_path, opd(weights()), weights_name=name)
    refused(tmp_path, r"several weights files \(checkpoint_7.pt, model_final.pt\); name one")


def test_another_kind_of_file_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "not a weights file; name one that ends in .safetensors, .pt")


class Runs:
    """Pickled, this runs a command wherever it is opened carelessly."""

    def __reduce__(self):
        return os.system, ("touch pickle-was-run",)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"W_enc": Runs()}, tmp_path / "cc_weights.pt")
    refused(tmp_path / "cc_weights.pt", r"cc_weights.pt: refused, because reading it would run code \(posix.system\)")
    assert not (tmp_path / "pickle-was-run").exists()


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "ae.pt")
    refused(tmp_path, "would run code")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize("damage", ["torn", "empty", "text"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    save(tmp_path, published.dictionary_learning(weights()), CONFIG, name)
    held = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes({"torn": held[: len(held) // 2], "empty": b"", "text": b"no weights here"}[damage])
    refused(tmp_path, f"{name}: (not a .*file|cannot be read) .*save or download it again")


def test_a_file_without_names_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    refused(tmp_path, "holds no weights by name")
    torch.save({"W_enc": 3}, tmp_path / "list.pt")
    refused(tmp_path, "holds no weights by name")


def test_unknown_names_are_listed(tmp_path):
    save_file({f"model.layers.{i}.weight": torch.zeros(2) for i in range(9)}, tmp_path / "model.safetensors")
    message = refused(tmp_path, r"no format of a crosscoder has these tensors \(model.layers.0.weight, .*9 in all\)")
    assert "model.layers.8" not in message


def drop(name):
    return lambda t: t.pop(name)


def put(**tensors):
    return lambda t: t.update({name.replace("__", "."): tensor for name, tensor in tensors.items()})


FAULTS = [
    (drop("encoder.bias"), "encoder.bias missing"),
    (put(W_skip=torch.zeros(2)), r"tensors that this format does not have \(W_skip\)"),
    (put(encoder__bias=torch.zeros(25)), r"encoder.bias has shape \[25\], not \[24\]"),
    (put(decoder__weight=torch.zeros(24, 2, 6)), r"decoder.weight has shape \[24, 2, 6\], not \[2, 24, 6\]"),
    (put(decoder__bias=torch.zeros(2, 6, 1)), r"decoder.bias has shape \[2, 6, 1\], not \[2, 6\]"),
    (put(encoder__bias=torch.full((24,), torch.nan)), "encoder.bias holds NaN"),
    (put(threshold=torch.tensor(torch.inf)), "threshold holds NaN or infinite"),
    (put(threshold=torch.tensor(-1.0)), "threshold is -1, which means that training never set it"),
    (put(k=torch.tensor(25)), "k=25 is more than n_latents=24"),
    (put(code_normalization_id=torch.tensor(9)), "code_normalization_id is 9"),
    (put(code_normalization_id=torch.tensor(5)), "code_normalization_id 5 .decoupled. does not have"),
    (put(threshold=torch.ones(2)), "code_normalization_id 1 .crosscoder. does not have"),
    (put(code_normalization_id=torch.tensor(5), threshold=torch.ones(2)), "decoupled thresholds differ between models"),
    (put(code_normalization_id=torch.tensor(3)), "add code_normalization_alpha_sae"),
    (drop("threshold"), "threshold missing"),
    (put(activation_global_scale=torch.tensor([1.0, 0.0])), "scales the input is not above 0"),
    (put(activation_mean=torch.tensor([[torch.nan] + [0.0] * 5] * 2)), "activation_mean holds NaN .*beside others"),
    (put(log_threshold=torch.full((24,), torch.nan)), "log_threshold holds NaN"),
]


@pytest.mark.parametrize(("change", "why"), FAULTS, ids=[why for _, why in FAULTS])
def test_tensors_that_do_not_fit_are_refused(tmp_path, change, why):
    tensors = published.batch_topk(weights())
    change(tensors)
    save(tmp_path, tensors, CONFIG)
    assert str(tmp_path) in refused(tmp_path, why)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("{", "config.json: cannot be read"),
        ("[]", "config.json: holds no names and values"),
        (CONFIG | {"dict_size": 25}, "dict_size is 25, and the tensors beside it have 24"),
        (CONFIG | {"activation": "topk"}, "tensors are those of batch_topk, and config.json says topk"),
        (CONFIG | {"encoder_layers": [1, 0]}, "encoder_layers"),
        (CONFIG | {"n_dedicated": 13}, "n_dedicated=13 for 2 models is more than n_latents=24"),
        (None, "there is no config.json beside it"),
    ],
)
def test_a_config_that_is_missing_garbled_or_anothers_is_refused(tmp_path, config, why):
    save(tmp_path, published.batch_topk(weights()), config)
    refused(tmp_path, why)


def test_a_count_that_is_none_is_named(tmp_path):
    tensors = published.batch_topk(weights())
    tensors.pop("k")
    save(tmp_path, tensors, CONFIG | {"k": "many"})
    refused(tmp_path, r"config.json: k is 'many'; it must be a whole number above 0")
    save(tmp_path, tensors, CONFIG | {"k": 0})
    refused(tmp_path, r"config.json: k is 0; it must be a whole number above 0")
    save(tmp_path, tensors, CONFIG | {"k": 1})
    assert Crosscoder.load(tmp_path).config.k == 1


def test_two_files_of_different_saves_are_refused(tmp_path):
    random_crosscoder().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 2}))
    with pytest.raises(InterpError, match="put the two files of one save together"):
        Crosscoder.load(tmp_path)


def test_a_stack_without_scales_says_how_to_give_them(tmp_path):
    w = weights()
    save(tmp_path, {"W_enc": w.W_enc, "W_dec": w.W_dec, "b_enc": w.b_enc, "b_dec": w.b_dec}, weights_name="cc.pt")
    refused(tmp_path, r"does not hold these factors; give 2, as in Crosscoder.load\(path, scales=\(1.0, 1.0\)\)")
    refused(tmp_path, "scales has 3 factors, and the file 2 models", scales=(1.0, 1.0, 1.0))
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        refused(tmp_path, "must be finite and above 0", scales=(1.0, bad))


def test_a_transcoder_is_no_autoencoder(tmp_path):
    tensors = sparsify(weights(n=1))
    save(tmp_path / "a", tensors | {"W_skip": torch.zeros(6, 6)}, {"k": 4}, "sae.safetensors", "cfg.json")
    save(tmp_path / "b", tensors, {"k": 4, "transcode": True}, "sae.safetensors", "cfg.json")
    for name in "ab":
        refused(tmp_path / name, "a transcoder")
    transcoder = {"_W_enc_XiDiL": torch.zeros(6, L), "_W_dec_LXoDo": torch.zeros(L, 3, 6)}
    save_crosscode(tmp_path / "c", transcoder, crosscode_yaml())
    refused(tmp_path / "c", "no axis of models")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "there is no cfg.json beside it"),
        ({}, "k is None"),
        ({"k": 4, "activation": "groupmax"}, "activation groupmax cannot be read"),
        ({"k": 4, "signed": True}, "activation signed topk cannot be read"),
    ],
)
def test_sparsify_of_another_kind_is_refused(tmp_path, config, why):
    save(tmp_path, sparsify(weights(n=1)), config, "sae.safetensors", "cfg.json")
    refused(tmp_path, why)


def test_sparsify_with_decoders_of_other_norms_is_refused(tmp_path):
    tensors = sparsify(weights(n=1))
    tensors["W_dec"][0] *= 1.01
    save(tmp_path, tensors, {"k": 4}, "sae.safetensors", "cfg.json")
    refused(tmp_path, r"sparsify keeps each row's k largest activations.*differ \(by up to 1\.0%\)")


LOG = "activation_function.log_jumprelu_threshold"


@pytest.mark.parametrize(
    ("said", "more", "why"),
    [
        ({"act_fn": "jumprelu"}, {LOG: torch.zeros(L)}, "thresholds / decoder norms differ between models"),
        ({"act_fn": "jumprelu"}, {}, f"{LOG} missing"),
        ({"act_fn": "topk", "top_k": 4}, {}, "proportions of decoder norms differ between models"),
        ({"act_fn": "batchtopk"}, {}, "act_fn batchtopk cannot be read: its choice depends on the batch"),
        ({"norm_activation": "token-wise"}, {}, "norm_activation token-wise cannot be read"),
        ({"sae_type": "clt"}, {}, "sae_type is clt"),
        ({"norm_activation": "dataset-wise"}, {}, "does not hold these factors"),
        (
            {"norm_activation": "dataset-wise"},
            {f"dataset_average_activation_norm.{hook}": torch.tensor(0.0) for hook in HOOKS},
            "was never measured",
        ),
    ],
)
def test_llamascopium_of_another_kind_is_refused(tmp_path, said, more, why):
    config = {"sae_type": "crosscoder", "act_fn": "relu", "norm_activation": "inference", "hook_points": HOOKS}
    save(tmp_path, llamascopium(weights(), **{name: t.clone() for name, t in more.items()}), config | said)
    refused(tmp_path, why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (crosscode_yaml("BatchTopkActivation", k_per_example=3), "activation_fn BatchTopkActivation cannot be read"),
        (crosscode_yaml("TopkActivation", k=3), "crosscode keeps each row's k largest activations"),
        ("d_model: 6\n", "activation_fn None cannot be read"),
        ("a: !!python/object/apply:os.system ['true']\n", "model_cfg.yaml: cannot be read"),
        (None, "there is no model_cfg.yaml"),
    ],
)
def test_crosscode_of_another_kind_is_refused(tmp_path, text, why):
    save_crosscode(tmp_path, crosscode(), text)
    refused(tmp_path, why)


def test_crosscode_that_is_not_folded_asks_for_scales(tmp_path):
    save_crosscode(tmp_path, crosscode(folded=False), crosscode_yaml())
    refused(tmp_path, "does not hold these factors; give 4")
    different = {"folded_scaling_factors_in_Xi": torch.ones(2, 2)}
    save_crosscode(tmp_path, crosscode(folded=False) | different, crosscode_yaml())
    refused(tmp_path, "factors of input and output differ")


def test_models_of_different_widths_are_named(tmp_path):
    save(tmp_path, opd(weights(), widths=(6, 4)), weights_name="model_final.pt")
    refused(tmp_path, r"the models have widths \[6, 4\]; our crosscoder needs one width for all")


def layouts():
    """One file's tensors and config of each layout that can be made here."""
    w = weights()
    return {
        "dictionary_learning": (published.batch_topk(w), CONFIG),
        "stacked": ({"W_enc": w.W_enc, "W_dec": w.W_dec, "b_enc": w.b_enc, "b_dec": w.b_dec}, None),
        "llamascopium": (llamascopium(w), {"act_fn": "relu", "norm_activation": "inference"}),
        "opd": (opd(w), None),
    }


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.int64])
@pytest.mark.parametrize("layout", ["dictionary_learning", "stacked", "llamascopium", "opd"])
def test_tensors_that_are_not_floats_are_named(tmp_path, layout, dtype):
    tensors, config = layouts()[layout]
    for name in tensors:
        if tensors[name].ndim == 0 or name == "activation_dims_tensor":
            continue
        save(tmp_path, tensors | {name: torch.ones_like(tensors[name], dtype=dtype)}, config)
        refused(tmp_path, f"{re.escape(name)} holds {str(dtype)[6:]}, not floats")


def test_crosscode_sparsify_and_sae_lens_tensors_that_are_not_floats(tmp_path):
    save_crosscode(
        tmp_path / "a", crosscode() | {"_W_dec_LXoDo": crosscode()["_W_dec_LXoDo"].to(torch.int8)}, crosscode_yaml()
    )
    refused(tmp_path / "a", "_W_dec_LXoDo holds int8")
    tensors = sparsify(weights(n=1))
    save(tmp_path / "b", tensors | {"W_dec": tensors["W_dec"].to(torch.int8)}, {"k": 3}, config_name="cfg.json")
    refused(tmp_path / "b", "W_dec holds int8")


def test_a_complex_count_is_named(tmp_path):
    tensors = published.batch_topk(weights()) | {"k": torch.tensor(3 + 0j)}
    refused(save(tmp_path, tensors, CONFIG), "k holds complex64, not floats")


@pytest.mark.parametrize("gone", ["encoder.projections.1.weight", "decoder.projections.0.bias"])
def test_opd_without_a_projection_names_it(tmp_path, gone):
    tensors = opd(weights())
    refused(save(tmp_path, {name: t for name, t in tensors.items() if name != gone}), f"{gone} missing")


def test_an_opd_projection_that_is_no_matrix_is_named(tmp_path):
    tensors = opd(weights()) | {"encoder.projections.1.weight": torch.zeros(6)}
    refused(save(tmp_path, tensors), r"encoder.projections.1.weight has shape \[6\]")


@pytest.mark.parametrize("layers", [-1, 2, "all", [1, 0], {"0": 1}])
def test_layers_of_another_order_or_kind_are_refused(tmp_path, layers):
    save(tmp_path, published.batch_topk(weights()), CONFIG | {"encoder_layers": layers})
    refused(tmp_path, "encoder_layers is .*; only all layers in their order")


def test_sparse_tensors_are_refused(tmp_path):
    tensors = published.dictionary_learning(weights())
    tensors["encoder.bias"] = tensors["encoder.bias"].to_sparse()
    torch.save(tensors, tmp_path / "ae.pt")
    refused(tmp_path, "encoder.bias is a sparse tensor")
