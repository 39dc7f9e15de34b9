"""A checkpoint's weights from its files: complete, floating-point and finite, with adapters merged, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp.errors import InterpError, one_line
from interp.models.source import ADAPTER, locate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def read_weights(name: str, path: str, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    """The checkpoint `path` of the study's model `name`, on the CPU; adapters are merged into their base.

    Raises:
        InterpError: the files are unreadable; a tensor is missing, misshapen, not floating-point or not finite; every
            matrix is zero; or the adapters are not LoRA adapters of exactly their base's layers.
    """
    source, where = locate(name, path), f"checkpoints.{name} = {path}"
    model, found = _loaded(where, source.model, dtype)
    _refuse_misfits(where, "weights", found["missing_keys"], (), [key for key, *_ in found["mismatched_keys"]])
    _refuse_other_types(where, _stored_types(model, source.model))
    _refuse_values(where, dict(model.named_parameters()))
    if not any(weight.any() for weight in model.parameters() if weight.ndim > 1):
        raise InterpError(f"{where}: every matrix is zero; save the weights again")
    return model if source.adapter is None else _merged(where, model, source.adapter)


def _loaded(where: str, model: str, dtype: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model and transformers' report of missing and mismatched keys, which it would fill with random numbers."""
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False
        )
        return loaded
    except Exception as error:  # every format of weights raises its own class
        raise InterpError(f"{where}: the weights cannot be read ({_reason(error)}); save them again") from error


def _merged(where: str, model: Any, adapter: str) -> PreTrainedModel:
    """`model` with LoRA adapters merged into its weights (Hu et al. 2021)."""
    from peft import PeftModel
    from peft.utils.save_and_load import load_peft_weights

    kind = json.loads((Path(adapter) / ADAPTER).read_text()).get("peft_type")
    if kind != "LORA":
        raise InterpError(f"{where}: peft_type is {kind} and only LORA is read; merge the adapters and save the model")
    try:
        tensors = load_peft_weights(adapter, device="cpu")
        _refuse_other_types(where, {key: str(t.dtype) for key, t in tensors.items() if not t.is_floating_point()})
        _refuse_values(where, tensors)
        adapted = PeftModel.from_pretrained(model, adapter)
        report = adapted.load_adapter(adapter, "default")  # again, since from_pretrained does not return the report
        _refuse_misfits(where, "adapters", report.missing_keys, report.unexpected_keys, ())
        return adapted.merge_and_unload()  # type: ignore[operator]
    except InterpError:
        raise
    except Exception as error:
        raise InterpError(f"{where}: the adapters cannot be read ({_reason(error)}); save them again") from error


def _refuse_misfits(where: str, what: str, missing: Any, unexpected: Any, misshapen: Any) -> None:
    wrong = {"lack": missing, "belong to layers that the model lacks:": unexpected, "have another shape in": misshapen}
    for state, keys in wrong.items():
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise InterpError(f"{where}: the {what} {state} {shown}; save all of them with the model's own config")


def _refuse_other_types(where: str, types: dict[str, str]) -> None:
    for key, kind in types.items():
        raise InterpError(f"{where}: {key} is of type {kind}; save the weights as floating-point numbers")


def _refuse_values(where: str, tensors: dict[str, torch.Tensor]) -> None:
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InterpError(f"{where}: {key} holds NaN or infinite values; save the weights again")


def _stored_types(model: PreTrainedModel, source: str) -> dict[str, str]:
    """Parameter to its type in the safetensors files, where that is not floating-point: transformers would convert
    it without notice. Quantised checkpoints hold integers by design."""
    from safetensors import safe_open
    from transformers.utils.hub import cached_file

    if getattr(model.config, "quantization_config", None) is not None:
        return {}
    folder = Path(source) if Path(source).is_dir() else Path(cached_file(source, "config.json") or "").parent
    parameters, types = dict(model.named_parameters()), {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "pt") as stored:
            types |= {key: stored.get_slice(key).get_dtype() for key in stored.keys()}  # noqa: SIM118
    return {
        key: kind
        for key, kind in types.items()
        if "F" not in kind and (key in parameters or f"{model.base_model_prefix}.{key}" in parameters)
    }


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnpicklingError":
        return "a pickle that could run code, which is refused; save it as safetensors"
    return one_line(error, 240)
