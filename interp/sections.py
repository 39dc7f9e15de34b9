"""The sections of a study's config on edits and steering, and what all sections are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the config: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class CausalConfig(Section):
    controls: int = Field(default=39, ge=20)
    """Draws of matched controls beside every edit of free-running text."""
    forced_controls: int = Field(default=39, ge=20)
    """Draws of matched controls beside every patch, whose text is given."""
    control_problems: int = Field(default=128, ge=8)
    """Problems of every control draw of the style and function arms."""
    latent_control_problems: int = Field(default=64, ge=8)
    """Problems of every control draw of the latent and steering arms."""
    problems: int = Field(default=1024, ge=8)
    """Problems of the style and function arms; capped by `traces.problems`."""
    pairs: int = Field(default=64, ge=8)
    """Counterfactual pairs of the patching arms."""
    patch_layers: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Blocks that are patched beside every draw of controls; null patches all, `[]` none."""
    patch_sites: tuple[Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z"], ...] = (
        "resid_pre",
        "attn_out",
        "mlp_out",
        "z",
    )
    """Sites of a block that are patched; at `z` each head by itself."""
    max_latents: int = Field(default=12, ge=1)
    """Confirmed latents of each behaviour that are edited, the best first."""
    amplify: float = Field(default=3.0, gt=1)
    """Factor of the amplification arm."""
    doses: tuple[float, ...] = (-0.2, -0.1, 0.1, 0.2)
    """Steering strengths in units of the mean residual norm."""
    coherence: float = Field(default=1.5, gt=1)
    """A steered run is coherent while its perplexity under the untouched model is below this multiple."""
    batch_size: int = Field(default=1024, ge=64)
    """Completions written together; arms and controls of the same problems share a batch."""
    workers: int = Field(default=2, ge=1)
    """Processes that write side by side on the CPU, each with its part of the `threads` and models of its own; fewer
    where the threads or the memory do not suffice. On a GPU one process writes."""
    resamples: int = Field(default=10000, ge=100)
    """Bootstrap resamples over problems."""
    bound: float = Field(default=0.05, gt=0, lt=1)
    """Equivalence bound of a drop, in accuracy."""


class SteeringConfig(Section):
    source: Literal["difference", "probe", "latents", "file"] = "difference"
    """How `interp steer make` gets the direction: a difference of means, a logistic probe, latents, or a file."""
    at: Literal["inside", "onset", "forks", "before"] = "inside"
    """Tokens it is made at: inside a behaviour, its first token, ends of steps before one, or 13 to 8 tokens before."""
    latents: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Latents whose decoder rows are added up (source latents); null takes the confirmed ones, at most
    `causal.max_latents` of each behaviour."""
    file: str | None = None
    """File of a direction (source file): safetensors, .pt or .gguf."""
    layer: int | None = Field(default=None, ge=0)
    """Block that the direction is of, for files that do not say it or hold several."""
    site: Literal["resid_pre", "resid_mid", "resid_post"] | None = None
    """Site of that block, for files that do not say it."""
    doses: tuple[float, ...] = (-0.4, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.4)
    """Strengths in units of the mean residual norm, of both signs; 0 is the untouched run."""
    where: tuple[Literal["everywhere", "forks"], ...] = Field(default=("everywhere", "forks"), min_length=1)
    """Places that are steered, each on its own: all positions, or the ends of steps and sentences."""
    addition: float | None = Field(default=None, gt=0)
    """Dose that `interp steer ablate` adds in base; null is the direction's own norm."""
    problems: int = Field(default=256, ge=8)
    """Problems it is tested on, at most half of `traces.problems`; it is made on the others."""
    controls: int = Field(default=99, ge=20)
    """Random directions of the same norm beside every dose in the distilled model."""
    covariance_controls: int = Field(default=20, ge=0)
    """Random directions of the same norm that lie as the residual's covariance does."""
    control_problems: int = Field(default=64, ge=8)
    """Problems of every control draw."""
    model_hint: str | None = None
    """Model type written into the GGUF file, such as qwen2; null is that of the distilled model."""
