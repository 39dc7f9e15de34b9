"""One thread (long runs share the machine), shapes checked at every call, and the small models that tests share."""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook
from shapes import CHECKED

install_import_hook(CHECKED, "shapes.checked")
torch.set_num_threads(1)
# The same examples in every run, and no deadline: a busy machine must not fail a test.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def tokenizer():
    from interp.organisms.chains import CHAINS

    return CHAINS.tokenizer()


@pytest.fixture(scope="session")
def models():
    from small import small_model

    return {name: small_model(seed) for seed, name in enumerate(("base", "distilled", "zero_rl"))}


@pytest.fixture(scope="session")
def model(models):
    return models["distilled"]


@pytest.fixture(params=["cpu", "pretended gpu", "cuda"])
def device(request):
    """Each device in turn: the CPU, a pretended GPU (see `elsewhere`), and a real one where there is one."""
    if request.param == "pretended gpu":
        from elsewhere import pretended_gpu

        with pretended_gpu() as gpu:
            yield gpu
        return
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    yield torch.device(request.param)
