"""A model folder, and adapters on it that change something."""

import pytest
import torch

from interp.models.training import with_adapters
from tests.small import small_model


@pytest.fixture
def base(tmp_path, tokenizer):
    small_model(0).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapters(base, tmp_path, tokenizer):
    """The adapted model, and the folder of its adapters."""
    model = small_model(0)
    model.name_or_path = str(base)
    adapted = with_adapters(model, 4, seed=0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    adapted.save_pretrained(tmp_path / "adapters")
    tokenizer.save_pretrained(tmp_path / "adapters")
    return adapted, tmp_path / "adapters"
