"""What `import interp` gives, and that it costs nothing before it is used."""

import subprocess
import sys

import pytest
import torch

import interp
from interp.errors import InterpError


def test_importing_the_package_loads_nothing_else():
    code = "import sys, interp; print(sorted(n for n in sys.modules if n.startswith(('interp.', 'torch', 'numpy'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    assert dir(interp) == sorted(interp.__all__)
    for name in interp.__all__:
        assert getattr(interp, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'crosscodr'"):
        _ = interp.crosscodr


def test_a_task_is_opened():
    assert interp.tasks.open("chains", terms=3).problems(2, 0, "test")[0].answer.isdigit()


def test_a_trio_loads_its_models_when_they_are_asked_for(models, tokenizer, tmp_path):
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    trio = interp.load_trio(**{name: str(tmp_path / name) for name in models}, device="cpu")
    ids = torch.arange(5)[None]
    assert trio["zero_rl"] is trio["zero_rl"]
    for name, model in models.items():
        assert torch.equal(trio[name](input_ids=ids).logits, model(input_ids=ids).logits)
    with pytest.raises(InterpError, match="no model 'control'"):
        trio["control"]
