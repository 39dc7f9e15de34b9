"""What does the sampling noise cost? One step of a 0.5 B decoder with a vocabulary of 152 k beside its noise.

    .venv/bin/python experiments/benchmark_sampler.py

The model has the shape of Qwen2.5-0.5B and random weights. A step reads one token of every row from the cache and makes
the logits; the noise is added to them as the sampler adds it. Both are measured in turn, in one process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from interp.cli import run_script
from interp.generation.cache import GrowingCache
from interp.generation.noise import add_gumbel
from interp.models.trio import pick_device


@dataclass(frozen=True)
class Options:
    """What to measure."""

    rows: int = 64
    """Completions written together."""
    prompt: int = 64
    """Tokens in the cache."""
    repeats: int = 9
    """Steps that are measured."""
    device: str = "auto"
    """auto, cpu or cuda."""


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call, to the end of what it started on the device."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def main(options: Options) -> None:
    """Measure and print."""
    device = pick_device(options.device)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    with device:
        model = Qwen2ForCausalLM(config).eval()
    cache, numbers = GrowingCache(config), torch.arange(options.rows, device=device)
    ids = torch.randint(0, config.vocab_size, (options.rows, options.prompt), device=device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    steps, noises = [], []
    for step in range(options.repeats + 1):
        found = {}

        def read(step: int = step, found: dict = found) -> None:
            one = ids[:, step : step + 1]
            found["logits"] = model(input_ids=one, past_key_values=cache, use_cache=True, logits_to_keep=1).logits

        steps.append(seconds(read, device))
        scores = found["logits"][:, -1].float()
        noises.append(seconds(lambda scores=scores, step=step: add_gumbel(scores, 0, numbers, step), device))
    step, noise = median(steps[1:]), median(noises[1:])
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    print(
        f"{options.rows} rows x {config.vocab_size:,} ids on {device.type}{threads}: a step {1000 * step:.0f} ms, "
        f"its noise {1000 * noise:.1f} ms ({100 * noise / step:.1f} %)"
    )


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
