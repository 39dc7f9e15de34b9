"""Published layouts are read to the code and the reconstruction that their own library computes."""

import pytest
import torch

from interp.crosscoder import Crosscoder
from interp.errors import InterpError

from . import published
from .published import CONFIG, K, L, N, double, rows, same, save, top, weights

f64 = torch.float64


def dictionary_learning_code(t, x, norm, mean=0.0, scale=1.0):
    """Format 1's encode and decode: t in fp64, `norm` what the score is made with, None for no gate."""
    x_hat = (x.double() - mean) * scale
    f = (torch.einsum("bnd,ndl->bl", x_hat, t["encoder.weight"]) + t["encoder.bias"]).relu()
    if norm is not None:
        f = f * (f * norm > t["threshold"])
    decoded = torch.einsum("bl,nld->bnd", f, t["decoder.weight"]) + t["decoder.bias"]
    return f, decoded / scale + mean


def crosscoder_norm(t):
    return t["decoder.weight"].norm(dim=2).sum(0)


def test_the_oldest_crosscoder_is_four_tensors_and_a_relu(tmp_path):
    tensors, x = published.dictionary_learning(weights()), rows()
    save(tmp_path, tensors, {"activation_dim": 6, "dict_size": L, "num_layers": N, "init_with_transpose": True})
    crosscoder = Crosscoder.load(tmp_path)
    assert crosscoder.config.activation == "relu"
    same(crosscoder, x, *dictionary_learning_code(double(tensors), x, None))


def without(*names):
    return lambda t: [t.pop(name) for name in names]


NORMALISATIONS = {
    "by the global scale": (lambda t: None, lambda t: t["activation_global_scale"][:, None]),
    "to the target": (
        without("activation_global_scale"),
        lambda t: (t["target_rms"] / (t["activation_std"].square().sum(1) + 1e-8).sqrt())[:, None],
    ),
    "by the deviations": (
        without("activation_global_scale", "target_rms"),
        lambda t: 1 / (t["activation_std"] + 1e-8),
    ),
}


@pytest.mark.parametrize("way", NORMALISATIONS)
def test_a_batch_topk_crosscoder_normalises_as_its_tensors_say(tmp_path, way):
    change, scale = NORMALISATIONS[way]
    tensors, x = published.batch_topk(weights()), rows()
    change(tensors)
    t = double(tensors)
    crosscoder = Crosscoder.load(save(tmp_path, tensors, CONFIG))
    f, decoded = dictionary_learning_code(t, x, crosscoder_norm(t), t["activation_mean"], scale(t))
    same(crosscoder, x, f, decoded)
    assert (crosscoder.config.activation, crosscoder.config.k) == ("batch_topk", K)


def test_a_normalisation_of_nan_is_not_used(tmp_path):
    tensors, x = published.batch_topk(weights(), used=False), rows()
    t = double(tensors)
    same(Crosscoder.load(save(tmp_path, tensors, CONFIG)), x, *dictionary_learning_code(t, x, crosscoder_norm(t)))


def test_the_buffer_k_is_right_where_the_config_says_another(tmp_path):
    assert Crosscoder.load(save(tmp_path, published.batch_topk(weights(), k=5), CONFIG)).config.k == 5


def test_the_config_k_is_taken_where_there_is_no_buffer(tmp_path):
    tensors = published.batch_topk(weights())
    tensors.pop("k")
    assert Crosscoder.load(save(tmp_path, tensors, CONFIG)).config.k == K


NORMS = {
    2: lambda d: d.permute(1, 0, 2).flatten(1).norm(dim=1),
    3: lambda d: 1.0 * d.permute(1, 0, 2).flatten(1).norm(dim=1) + 0.1 * d.norm(dim=2).sum(0),
    4: lambda d: torch.ones((), dtype=f64),
}


@pytest.mark.parametrize("norm_id", NORMS)
def test_a_gate_by_another_norm_becomes_a_threshold_for_each_latent(tmp_path, norm_id):
    config = CONFIG | {"code_normalization_alpha_sae": 1.0, "code_normalization_alpha_cc": 0.1}
    tensors, x = published.batch_topk(weights(), norm_id, used=False), rows()
    t = double(tensors)
    crosscoder = Crosscoder.load(save(tmp_path, tensors, config))
    assert crosscoder.config.activation == "jumprelu"
    same(crosscoder, x, *dictionary_learning_code(t, x, NORMS[norm_id](t["decoder.weight"])))
    other, _ = dictionary_learning_code(t, x, crosscoder_norm(t))
    assert not torch.equal(crosscoder.encode(x) > 0, other > 0)  # the norm matters here


def test_decoupled_thresholds_that_agree_are_one_gate(tmp_path):
    w = weights()
    w.W_dec = torch.nn.functional.normalize(w.W_dec, dim=2) * torch.tensor([1.0, 2.0])[:, None]
    tensors = published.batch_topk(w, 5, used=False) | {"threshold": torch.tensor([0.8, 1.6])}
    t, x = double(tensors), rows()
    norm = t["decoder.weight"].norm(dim=2)
    one = t | {"threshold": t["threshold"][0]}
    same(Crosscoder.load(save(tmp_path, tensors, CONFIG)), x, *dictionary_learning_code(one, x, norm[0]))


def test_a_compiled_training_run_is_read_without_its_prefix_or_a_config(tmp_path):
    tensors, x = published.batch_topk(weights(), used=False), rows()
    save(tmp_path, {f"_orig_mod.{name}": t for name, t in tensors.items()}, weights_name="ae_5000.pt")
    t = double(tensors)
    same(Crosscoder.load(tmp_path / "ae_5000.pt"), x, *dictionary_learning_code(t, x, crosscoder_norm(t)))


def test_half_precision_is_read_as_float32(tmp_path):
    tensors, x = published.dictionary_learning(weights()), rows()
    halved = {name: t.bfloat16() for name, t in tensors.items()}
    crosscoder = Crosscoder.load(save(tmp_path, halved, CONFIG))
    assert crosscoder.encoder.dtype == torch.float32
    same(crosscoder, x, *dictionary_learning_code(double({k: t.float() for k, t in halved.items()}), x, None))


@pytest.mark.parametrize("n", [2, 12])
def test_a_stack_is_read_with_the_scales_of_its_inputs(tmp_path, n):
    w, x = weights(n=n), rows(n)
    scales = tuple(0.5 + 0.1 * i for i in range(n))
    tensors = {"W_enc": w.W_enc, "W_dec": w.W_dec, "b_enc": w.b_enc, "b_dec": w.b_dec}
    folder = save(tmp_path / "blocks.14.hook_resid_pre", tensors, {}, "cc_weights.pt", "cfg.json")
    t, factor = double(tensors), torch.tensor(scales, dtype=f64)[:, None]
    f = (torch.einsum("bnd,ndl->bl", x.double() * factor, t["W_enc"]) + t["b_enc"]).relu()
    decoded = (torch.einsum("bl,lnd->bnd", f, t["W_dec"]) + t["b_dec"]) / factor
    same(Crosscoder.load(folder, scales=scales), x, f, decoded)


def sparsify(w):
    unit = torch.nn.functional.normalize(w.W_dec[:, 0], dim=1)
    return {"encoder.weight": w.W_enc[0].T, "encoder.bias": w.b_enc, "W_dec": unit, "b_dec": w.b_dec[0]}


def test_sparsify_takes_b_dec_off_its_input_and_keeps_the_k_largest(tmp_path):
    tensors, x = sparsify(weights(n=1)), rows(1)
    folder = save(
        tmp_path / "layers.5", tensors, {"k": 4, "d_in": 6, "activation": "topk"}, "sae.safetensors", "cfg.json"
    )
    t = double(tensors)
    pre = ((x[:, 0].double() - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    f = top(pre, 4)
    same(Crosscoder.load(folder), x, f, (f @ t["W_dec"] + t["b_dec"])[:, None])


def llamascopium(w, **more):
    shift = torch.tensor([[0.4], [-0.4]])
    return {
        "W_E": w.W_enc,
        "b_E": w.b_enc / 2 + shift * w.b_enc.roll(1),
        "W_D": w.W_dec.transpose(0, 1),
        "b_D": w.b_dec,
        **more,
    }


HOOKS = ["blocks.3.hook_resid_post", "blocks.7.hook_resid_post"]


def llamascopium_code(t, x, act, factor=1.0):
    """Encode per model and decode; the library's code has an axis of models."""
    hidden = torch.einsum("bnd,ndl->bnl", x.double() * factor, t["W_E"]) + t["b_E"]
    norm = t["W_D"].norm(dim=2)
    f = act(hidden.sum(1, keepdim=True) * norm) / norm
    decoded = torch.einsum("bnl,nld->bnd", f, t["W_D"]) + t["b_D"]
    torch.testing.assert_close(f[:, 0], f[:, 1], rtol=1e-4, atol=0)  # else it could not be one code
    return f[:, 0], decoded / factor


def unit_decoders(w):
    w.W_dec = torch.nn.functional.normalize(w.W_dec, dim=2) * (0.5 + torch.rand(L, 1, 1))
    return w


def test_llamascopium_sums_the_models_biases(tmp_path):
    config = {"sae_type": "crosscoder", "act_fn": "relu", "norm_activation": "inference", "hook_points": HOOKS}
    tensors, x = llamascopium(weights()), rows()
    same(Crosscoder.load(save(tmp_path, tensors, config)), x, *llamascopium_code(double(tensors), x, torch.relu))


def test_llamascopium_scales_by_the_mean_norms_in_the_order_of_its_hooks(tmp_path):
    norms = {
        f"dataset_average_activation_norm.{hook}": torch.tensor(v) for hook, v in zip(HOOKS, (7.0, 2.0), strict=True)
    }
    config = {"sae_type": "crosscoder", "act_fn": "relu", "norm_activation": "dataset-wise", "hook_points": HOOKS}
    tensors, x = llamascopium(weights(), **dict(reversed(norms.items()))), rows()
    factor = 6**0.5 / torch.tensor([[7.0], [2.0]], dtype=f64)
    same(
        Crosscoder.load(save(tmp_path, tensors, config)), x, *llamascopium_code(double(tensors), x, torch.relu, factor)
    )


def test_llamascopium_without_its_mean_norms_takes_scales(tmp_path):
    config = {"sae_type": "crosscoder", "act_fn": "relu", "norm_activation": "dataset-wise", "hook_points": HOOKS}
    tensors, x = llamascopium(weights()), rows()
    crosscoder = Crosscoder.load(save(tmp_path, tensors, config), scales=(0.5, 3.0))
    factor = torch.tensor([[0.5], [3.0]], dtype=f64)
    same(crosscoder, x, *llamascopium_code(double(tensors), x, torch.relu, factor))


def test_llamascopium_jumprelu_acts_on_the_value_times_the_norm(tmp_path):
    torch.manual_seed(0)
    log = torch.linspace(-2, 0.5, L)
    config = {"sae_type": "crosscoder", "act_fn": "jumprelu", "norm_activation": "inference", "hook_points": HOOKS}
    tensors, x = llamascopium(unit_decoders(weights()), **{"activation_function.log_jumprelu_threshold": log}), rows()
    act = lambda v: v * (v > log.double().exp())  # noqa: E731
    same(Crosscoder.load(save(tmp_path, tensors, config)), x, *llamascopium_code(double(tensors), x, act))


def test_llamascopium_topk_ranks_the_value_times_the_norm(tmp_path):
    torch.manual_seed(0)
    w = unit_decoders(weights())
    w.W_dec[:, 1] *= 3  # a model may be larger than another, for all latents alike
    config = {
        "sae_type": "crosscoder",
        "act_fn": "topk",
        "top_k": 4,
        "norm_activation": "inference",
        "hook_points": HOOKS,
    }
    tensors, x = llamascopium(w), rows()
    same(
        Crosscoder.load(save(tmp_path, tensors, config)),
        x,
        *llamascopium_code(double(tensors), x, lambda v: top(v.relu(), 4)),
    )


def crosscode(n_hooks=2, folded=True, **more):
    w = weights(n=N * n_hooks)
    slots = (N, n_hooks)
    return {
        "_W_enc_XiDiL": w.W_enc.unflatten(0, slots),
        "_W_dec_LXoDo": w.W_dec.unflatten(1, slots),
        "b_enc_L": w.b_enc,
        "_b_dec_XoDo": w.b_dec.unflatten(0, slots),
        "is_folded": torch.tensor(folded),
        "folded_scaling_factors_in_Xi": torch.rand(slots) if folded else torch.zeros(slots),
        "folded_scaling_factors_out_Xo": torch.rand(slots) if folded else torch.zeros(slots),
        **more,
    }


def crosscode_yaml(classname="ReLUActivation", **cfg):
    inner = "".join(f"    {key}: {value}\n" for key, value in cfg.items()) or "    {}\n"
    return (
        f"activation_fn:\n  cfg:\n{inner}  classname: {classname}\n"
        "crosscoding_dims: !!python/tuple\n- 2\n- 2\nd_model: 6\nn_latents: 24\nuse_encoder_bias: true\n"
    )


def crosscode_code(t, x, act, factor=1.0):
    x_BMPD = x.double().unflatten(1, (N, -1)) * factor
    f = act(torch.einsum("bmpd,mpdl->bl", x_BMPD, t["_W_enc_XiDiL"]) + t["b_enc_L"])
    decoded = torch.einsum("bl,lmpd->bmpd", f, t["_W_dec_LXoDo"]) + t["_b_dec_XoDo"]
    return f, (decoded / factor).flatten(1, 2)


def save_crosscode(folder, tensors, text):
    return save(folder, tensors, text, "model.pt", "model_cfg.yaml")


def test_crosscode_flattens_models_and_hooks_and_its_folded_weights_take_raw_input(tmp_path):
    tensors, x = crosscode(), rows(4)
    crosscoder = Crosscoder.load(save_crosscode(tmp_path, tensors, crosscode_yaml()))
    assert crosscoder.config.n_models == 4
    same(crosscoder, x, *crosscode_code(double(tensors), x, torch.relu))


def test_crosscode_that_is_not_folded_takes_the_scales_it_was_trained_with(tmp_path):
    tensors, x = crosscode(folded=False), rows(4)
    scales = (0.5, 0.7, 0.9, 1.1)
    crosscoder = Crosscoder.load(save_crosscode(tmp_path, tensors, crosscode_yaml()), scales=scales)
    factor = torch.tensor(scales, dtype=f64).view(2, 2, 1)
    same(crosscoder, x, *crosscode_code(double(tensors), x, torch.relu, factor))


def test_crosscode_factors_that_are_there_but_not_folded_in_are_applied(tmp_path):
    factor = torch.tensor([[0.5, 0.7], [0.9, 1.1]])
    both = dict.fromkeys(("folded_scaling_factors_in_Xi", "folded_scaling_factors_out_Xo"), factor)
    tensors, x = crosscode(folded=False) | both, rows(4)
    crosscoder = Crosscoder.load(save_crosscode(tmp_path, tensors, crosscode_yaml()))
    same(crosscoder, x, *crosscode_code(double(tensors), x, torch.relu, factor.double()[..., None]))


def test_crosscode_jumprelu_is_known_by_its_thresholds(tmp_path):
    log = torch.linspace(-2, 0.5, L)
    for name in ("_activation_fn.log_threshold_L", "activation_fn.log_threshold_L"):
        tensors, x = crosscode(**{name: log}), rows(4)
        text = crosscode_yaml("AnthropicSTEJumpReLUActivation", size=L, bandwidth=0.1)
        crosscoder = Crosscoder.load(save_crosscode(tmp_path / name, tensors, text))
        same(crosscoder, x, *crosscode_code(double(tensors), x, lambda v: (v > log.double().exp()) * v))


def test_crosscode_topk_keeps_the_largest_activations(tmp_path):
    tensors, x = crosscode(), rows(4)
    W_dec = tensors["_W_dec_LXoDo"]
    tensors["_W_dec_LXoDo"] = W_dec / W_dec.norm(dim=-1).sum((1, 2))[:, None, None, None]
    tensors.pop("b_enc_L"), tensors.pop("_b_dec_XoDo")  # both biases can be turned off
    crosscoder = Crosscoder.load(save_crosscode(tmp_path, tensors, crosscode_yaml("TopkActivation", k=3)))
    t = double(tensors | {"b_enc_L": torch.zeros(L), "_b_dec_XoDo": torch.zeros(2, 2, 6)})
    same(crosscoder, x, *crosscode_code(t, x, lambda v: top(v, 3)))


def opd(w, widths=(6, 6), used=True, gate=True):
    tensors = {"encoder.bias": w.b_enc, "normalizer.target_rms": torch.tensor(1.0)}
    tensors |= {"activation_dims_tensor": torch.tensor(widths), "code_normalization_id": torch.tensor(1)}
    for i, width in enumerate(widths):
        nan = torch.full((width,), torch.nan)
        tensors |= {
            f"encoder.projections.{i}.weight": w.W_enc[i, :width].T,
            f"decoder.projections.{i}.weight": w.W_dec[:, i, :width].T,
            f"decoder.projections.{i}.bias": w.b_dec[i, :width],
            f"normalizer.mean_{i}": w.mean[i, :width] if used else nan,
            f"normalizer.std_{i}": w.std[i, :width] if used else nan,
            f"normalizer.scale_{i}": 1 / w.std[i].norm() if used else torch.tensor(1.0),
        }
    return tensors | ({"k": torch.tensor(K), "threshold": torch.tensor(0.8)} if gate else {})


def opd_code(t, x, used=True, gate=True):
    pre, norm, decoded = t["encoder.bias"], 0.0, []
    for i in range(N):
        x_hat = (
            (x[:, i].double() - t[f"normalizer.mean_{i}"]) * t[f"normalizer.scale_{i}"] if used else x[:, i].double()
        )
        pre = pre + x_hat @ t[f"encoder.projections.{i}.weight"].T
        norm = norm + t[f"decoder.projections.{i}.weight"].norm(dim=0)
    f = pre.relu()
    f = f * (f * norm > t["threshold"]) if gate else f
    for i in range(N):
        out = f @ t[f"decoder.projections.{i}.weight"].T + t[f"decoder.projections.{i}.bias"]
        decoded.append(out / (t[f"normalizer.scale_{i}"] + 1e-8) + t[f"normalizer.mean_{i}"] if used else out)
    return f, torch.stack(decoded, dim=1)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("gate", [True, False])
def test_opd_centres_and_scales_each_model(tmp_path, used, gate):
    tensors, x = opd(weights(), used=used, gate=gate), rows()
    crosscoder = Crosscoder.load(save(tmp_path, tensors, weights_name="model_final.pt"))
    assert crosscoder.config.activation == ("batch_topk" if gate else "relu")
    same(crosscoder, x, *opd_code(double(tensors), x, used, gate))


def test_opd_weights_are_found_in_a_checkpoint(tmp_path):
    tensors = opd(weights())
    torch.save({"model_state_dict": tensors, "step": 7, "optimizer": {"state": {}}}, tmp_path / "checkpoint_7.pt")
    same(Crosscoder.load(tmp_path), rows(), *opd_code(double(tensors), rows()))


def test_what_was_read_is_saved_in_our_own_format_to_the_bit(tmp_path):
    crosscoder = Crosscoder.load(save(tmp_path / "theirs", published.batch_topk(weights(), norm_id=2), CONFIG))
    crosscoder.save(tmp_path / "ours")
    assert torch.equal(Crosscoder.load(tmp_path / "ours").encode(rows()), crosscoder.encode(rows()))


def test_scales_are_refused_where_the_file_has_its_own(tmp_path):
    save(tmp_path / "a", published.batch_topk(weights()), CONFIG)
    save(tmp_path / "b", sparsify(weights(n=1)), {"k": 4}, "sae.safetensors", "cfg.json")
    save(tmp_path / "c", llamascopium(weights()), {"act_fn": "relu", "norm_activation": "inference"})
    save_crosscode(tmp_path / "d", crosscode(), crosscode_yaml())
    save(tmp_path / "e", opd(weights()), weights_name="model_final.pt")
    for name, n in zip("abcde", (2, 1, 2, 4, 2), strict=True):
        with pytest.raises(InterpError, match="leave scales out"):
            Crosscoder.load(tmp_path / name, scales=(1.0,) * n)
