"""Files in the layouts that other libraries publish, and those libraries' arithmetic by hand in fp64.

Each arithmetic is written as its library computes it, not as our crosscoder would.
"""

import json
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

N, D, L, K = 2, 6, 24, 3


def weights(seed=0, n=N, d=D, latents=L):
    """Random weights in the field's shapes; decoder norms differ by latent and model."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    return SimpleNamespace(
        W_enc=draw(n, d, latents) / d**0.5,
        W_dec=draw(latents, n, d) * (0.2 + draw(latents, n, 1).abs()),
        b_enc=draw(latents) * 0.3,
        b_dec=draw(n, d),
        mean=draw(n, d),
        std=0.5 + draw(n, d).abs(),
    )


def rows(n=N, d=D, seed=9):
    generator = torch.Generator().manual_seed(seed)
    return 1 + 2 * torch.randn(80, n, d, generator=generator)


def save(folder, tensors, config=None, weights_name="model.safetensors", config_name="config.json"):
    """Write both files; a name that ends in .pt is pickled. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if weights_name.endswith(".pt"):
        torch.save(tensors, folder / weights_name)
    else:
        save_file(tensors, folder / weights_name)
    if config is not None:
        (folder / config_name).write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def dictionary_learning(w):
    """Format 1's four tensors, which are all that the oldest files hold."""
    return {
        "encoder.weight": w.W_enc,
        "encoder.bias": w.b_enc,
        "decoder.weight": w.W_dec.transpose(0, 1),
        "decoder.bias": w.b_dec,
    }


def batch_topk(w, norm_id=1, threshold=0.8, k=K, used=True):
    """Format 1's newest tensors; `used` says whether the normalisation is, and NaN that it is not."""
    scale = 1.3 / (w.std.square().sum(1) + 1e-8).sqrt()
    return dictionary_learning(w) | {
        "code_normalization_id": torch.tensor(norm_id),
        "activation_mean": w.mean if used else torch.full_like(w.mean, torch.nan),
        "activation_std": w.std if used else torch.full_like(w.std, torch.nan),
        "activation_global_scale": scale if used else torch.ones(len(scale)),
        "target_rms": torch.tensor(1.3),
        "k": torch.tensor(k, dtype=torch.int32),
        "threshold": torch.tensor(threshold),
    }


CONFIG = {"activation_dim": D, "dict_size": L, "num_layers": N, "k": K}


def double(tensors):
    return {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}


def top(values, k):
    """Each row with all but its k largest entries at 0."""
    best = values.topk(k, dim=-1)
    return torch.zeros_like(values).scatter(-1, best.indices, best.values)


def same(crosscoder, x, f, decoded):
    """Our code and reconstruction are these, to fp32, with the same latents active; neither all nor none are."""
    ours = crosscoder.encode(x)
    assert 0 < (f > 0).float().mean() < 1
    assert torch.equal(ours > 0, f > 0)
    torch.testing.assert_close(ours, f.float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(crosscoder.decode(ours), decoded.float(), atol=1e-4, rtol=1e-4)
