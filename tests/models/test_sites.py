import pytest
import torch
from small import LAYERS, residual

from interp.errors import InterpError
from interp.models.hooks import Site, changing
from interp.models.sites import check_layer, decoder_blocks, patched_layers

IDS = torch.tensor([[3, 4, 5, 9, 14], [7, 8, 13, 22, 1]])


@pytest.fixture(autouse=True)
def hooks_are_gone(model):
    """No test may leave a hook; Hugging Face puts some of its own, once, to hand out hidden states."""
    with torch.inference_mode():
        model(input_ids=IDS, output_hidden_states=True)
    before = [dict(module._forward_hooks) for module in model.modules()]
    yield
    assert [dict(module._forward_hooks) for module in model.modules()] == before


@pytest.mark.parametrize("layer", range(LAYERS - 1))
@torch.inference_mode()
def test_a_residual_is_hugging_faces_to_the_bit(model, layer):
    """Below the last block: above it Hugging Face reports the residual after the final norm."""
    expected = model(input_ids=IDS, output_hidden_states=True).hidden_states[layer + 1]
    assert torch.equal(residual(model, layer, input_ids=IDS), expected)


@torch.inference_mode()
def test_the_last_blocks_residual_is_before_the_final_norm(model):
    last = residual(model, LAYERS - 1, input_ids=IDS)
    expected = model(input_ids=IDS, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(model.model.norm(last), expected)
    assert not torch.allclose(last, expected)


@torch.inference_mode()
def test_blocks_above_do_not_run(model):
    ran = []
    handles = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(decoder_blocks(model))
    ]
    residual(model, 1, input_ids=IDS)
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


@pytest.mark.parametrize("layer", range(LAYERS))
@torch.inference_mode()
def test_an_identity_edit_changes_nothing_to_the_bit(model, layer):
    expected = model(input_ids=IDS).logits
    with changing(model, {Site(layer): lambda h: h.clone()}):
        assert torch.equal(model(input_ids=IDS).logits, expected)


@torch.inference_mode()
def test_an_edit_acts_on_the_blocks_output_and_ends_with_the_context(model):
    expected = model(input_ids=IDS).logits
    above = residual(model, 2, input_ids=IDS)
    with changing(model, {Site(1): torch.zeros_like}):
        assert not torch.allclose(residual(model, 2, input_ids=IDS), above)
        assert not torch.allclose(model(input_ids=IDS).logits, expected)
    assert torch.equal(model(input_ids=IDS).logits, expected)
    with changing(model, {Site(LAYERS - 1): torch.zeros_like}):
        assert torch.count_nonzero(model(input_ids=IDS).logits) == 0


@torch.inference_mode()
def test_the_hook_is_gone_after_an_error(model):
    expected = model(input_ids=IDS).logits

    def fail(h):
        raise ValueError("in the edit")

    with pytest.raises(ValueError, match="in the edit"), changing(model, {Site(1): fail}):
        model(input_ids=IDS)
    with pytest.raises(KeyboardInterrupt), changing(model, {Site(1): torch.zeros_like}):
        raise KeyboardInterrupt
    assert torch.equal(model(input_ids=IDS).logits, expected)


def test_an_error_of_the_model_is_not_swallowed(model):
    with pytest.raises(IndexError):
        residual(model, 1, input_ids=torch.tensor([[10_000]]))


@pytest.mark.parametrize(
    ("layer", "n", "chosen"), [("auto", 3, 1), ("auto", 1, 0), ("auto", 28, 14), (0, 3, 0), (2, 3, 2)]
)
def test_the_layer_that_is_read(layer, n, chosen):
    assert check_layer(layer, n) == chosen


@pytest.mark.parametrize("layer", [3, 40])
def test_a_layer_that_does_not_exist(layer):
    with pytest.raises(InterpError, match=f"activations.layer = {layer}: .* 0 to 2"):
        check_layer(layer, 3)


@pytest.mark.parametrize(("asked", "chosen"), [(None, [0, 1, 2]), ((), []), ((2, 0, 2), [0, 2])])
def test_the_layers_that_are_patched(asked, chosen):
    assert patched_layers(asked, 3) == chosen


def test_a_patched_layer_that_does_not_exist():
    with pytest.raises(InterpError, match=r"causal.patch_layers = 3: .* 0 to 2"):
        patched_layers((1, 3), 3)


def test_a_model_without_blocks():
    class Flat(torch.nn.Module):
        class config:  # noqa: N801
            num_hidden_layers = 2

            @classmethod
            def get_text_config(cls):
                return cls

    with pytest.raises(InterpError, match="Flat: no list of 2 decoder blocks"):
        decoder_blocks(Flat())
