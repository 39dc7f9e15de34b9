"""The scripts of `experiments/`, as modules."""

import importlib.util
import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def load_script(name):
    """`experiments/{name}.py`."""
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
