"""Steering a study's models along one direction: `interp steer ACTION CONFIG`, after the stages up to `activations`.

Each action is a module of its name with `run(study)`, and one line of `ACTIONS`. Everything is in STUDY/steering:

| file | holds |
|---|---|
| `direction.safetensors` | the direction, how it was made, and what its doses did (`make`, `dose`) |
| `runs/`, `effects.parquet`, `slopes.parquet`, `figures/` | every dose beside random directions (`dose`) |
| `ablation_runs/`, `ablation.parquet`, `table.md` | projected out, and added in base (`ablate`) |
| `direction.gguf` | the control vector for llama.cpp (`export`) |

A new way to make a direction is a function in `make.SOURCES`; new tokens to make it at, one in `positions.SIDES`; a new
place to steer at, one line of `arms.PLACES`.
"""

from __future__ import annotations

from importlib import import_module

from interp.errors import InterpError
from interp.study import Study

ACTIONS = {
    "make": "make a direction from the study's activations, its latents or a file",
    "dose": "add it in doses to every model, beside random directions; find the usable range",
    "ablate": "project it out of distilled and zero-RL, add it in base; one table of what it does",
    "export": "write it as a control vector for llama.cpp (GGUF)",
}
"""Action to its sentence in the help, in the order of use."""


def run(study: Study, action: str) -> None:
    """Run one action while the folder's lock is held.

    Raises:
        InterpError: a stage is missing or was run with another config, or another run is steering the same study.
    """
    from interp.locks import locked

    if not study.root.is_dir():
        raise InterpError(f"steer: {study.root} is not there; run `interp study` first, or name the study with --out")
    with locked(study.folder("steering")):
        import_module(f"interp.steering.{action}").run(study)
