"""The protocol's formulas, written plainly, one number at a time where that is clearer, in float64."""

import torch

DOUBLE = torch.float64


def normalise(x, mean, scale):
    out = torch.empty(x.shape, dtype=DOUBLE)
    for m in range(x.shape[1]):
        out[:, m] = (x[:, m].double() - mean[m].double()) * scale[m].double()
    return out


def pre_activations(x_hat, w_enc, b_enc):
    total = b_enc.double().expand(len(x_hat), -1)
    for m in range(x_hat.shape[1]):
        total = total + x_hat[:, m] @ w_enc[m].double()
    return total


def scores(f, w_dec):
    norms = sum(w_dec[:, m].double().square().sum(1).sqrt() for m in range(w_dec.shape[1]))
    return f * norms


def threshold_gate(f, w_dec, threshold):
    return f * (scores(f, w_dec) > threshold.double())


def best_places(flat, n):
    """Places of the n best positive values; the first of equal ones."""
    ranked = sorted((-value, place) for place, value in enumerate(flat.tolist()) if value > 0)
    return {place for _, place in ranked[:n]}


def top_mask(score, n):
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[sorted(best_places(score.flatten(), n))] = True
    return mask.view(score.shape)


def reconstruct(f, w_dec, b_dec):
    return torch.stack([f @ w_dec[:, m].double() + b_dec[m].double() for m in range(w_dec.shape[1])], dim=1)


def loss(x_hat, x):
    batch, n_models, d_model = x.shape
    return sum(((x_hat[:, m] - x[:, m]) ** 2).sum() / (batch * d_model) for m in range(n_models))


def aux(pre, w_dec, error, dead, k_aux):
    """Each row's k_aux best dead latents predict the error."""
    f = pre.relu() * dead
    ranked = scores(f, w_dec).detach()
    kept = torch.zeros_like(f)
    for row in range(len(f)):
        for place in best_places(ranked[row], k_aux):
            kept[row, place] = 1
    return loss(reconstruct(f * kept, w_dec, torch.zeros(w_dec.shape[1:])), error)


class Rectangle(torch.autograd.Function):
    """1 where v > θ; d/dθ = -K((v - θ) / ε) / ε with K a rectangle of width 1, for positive v; d/dv = 0."""

    @staticmethod
    def forward(ctx, v, theta, width):
        ctx.save_for_backward(v, theta)
        ctx.width = width
        return (v > theta).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        v, theta = ctx.saved_tensors
        inside = ((((v - theta) / ctx.width).abs() < 0.5) & (v > 0)).to(v.dtype)
        return torch.zeros_like(v), -inside / ctx.width * grad, None


class Jump(torch.autograd.Function):
    """v where v > θ; d/dθ = -θ/ε K((v - θ) / ε)."""

    @staticmethod
    def forward(ctx, v, theta, width):
        ctx.save_for_backward(v, theta)
        ctx.width = width
        return v * (v > theta)

    @staticmethod
    def backward(ctx, grad):
        v, theta = ctx.saved_tensors
        inside = ((((v - theta) / ctx.width).abs() < 0.5) & (v > 0)).to(v.dtype)
        return grad * (v > theta), -theta / ctx.width * inside * grad, None


def training_code(crosscoder, x, k, bandwidth):
    """(pre-activations, code under the gate of training, penalty) of normalised rows."""
    pre = pre_activations(x, crosscoder.W_enc, crosscoder.b_enc)
    f, penalty = pre.relu(), torch.zeros((), dtype=DOUBLE)
    score = scores(f, crosscoder.W_dec)
    match crosscoder.config.activation:
        case "batch_topk":
            f = f * top_mask(score.detach(), k * len(x))
        case "topk":
            f = f * torch.stack([top_mask(row, k) for row in score.detach()])
        case "jumprelu":
            theta = crosscoder.log_threshold.exp().expand_as(f)
            f, penalty = Jump.apply(f, theta, bandwidth), Rectangle.apply(f, theta, bandwidth).sum() / len(x)
        case "relu":
            penalty = score.sum() / len(x)
    return pre, f, penalty
