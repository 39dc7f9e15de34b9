"""What training minimises."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.crosscoder.module import Crosscoder


def squared_error(
    x_hat: Float[Tensor, "batch models d_model"], x: Float[Tensor, "batch models d_model"]
) -> Float[Tensor, ""]:
    """Squared differences averaged over rows and coordinates, then summed over models.

    On normalised rows a reconstruction by the mean alone costs n_models.
    """
    return (x_hat - x).square().mean(dim=(0, 2)).sum()


def aux_k(
    crosscoder: Crosscoder,
    pre: Float[Tensor, "batch latents"],
    error: Float[Tensor, "batch models d_model"],
    dead: Bool[Tensor, " latents"],
    k_aux: int,
) -> Float[Tensor, ""]:
    """How badly the dead latents predict what the living ones left (AuxK, Gao et al. 2024, appendix A.2).

    `error` is x - x_hat in normalised space, taken as a constant; each row's `k_aux` best dead latents by score, after
    relu and with no gate and no decoder bias, predict it. Averaged like `squared_error`; zero where none is dead.
    """
    places = dead.nonzero().squeeze(1)
    if len(places) == 0:
        return pre.new_zeros(())
    f = pre.index_select(1, places).relu()
    if len(places) > k_aux:
        best = (f.detach() * crosscoder.decoder_norms(places).detach()).topk(k_aux, dim=1, sorted=False).indices
        f = torch.zeros_like(f).scatter(1, best, f.gather(1, best))
    prediction = (f @ crosscoder.W_dec.index_select(0, places).flatten(1)).view_as(error)
    return squared_error(prediction, error.detach())
