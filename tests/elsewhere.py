"""A pretended GPU: CPU tensors that say they are on cuda, and refuse to meet tensors that are not.

Inside `pretended_gpu()`, whatever asks for `device="cuda"` gets a tensor of class `Elsewhere`. It computes on the CPU,
so results are those of the CPU to the bit. It raises `MixedDevicesError` where CUDA would raise: an operation of a
tensor of one or more dimensions on this device with one that is not, and `.numpy()`. As on CUDA, a CPU tensor may index
one that is elsewhere, and a copy may cross. It does not show what only real kernels do: other rounding, missing
kernels, memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
_CROSSING = ("copy_", "_to_copy", "set_")
FACTORIES = (
    "zeros",
    "ones",
    "empty",
    "full",
    "arange",
    "tensor",
    "as_tensor",
    "rand",
    "randn",
    "randint",
    "randperm",
    "eye",
)
_INDEXED = ("index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")


class MixedDevicesError(RuntimeError):
    """Tensors of the pretended GPU and of the CPU met in one operation."""


class Elsewhere(torch.Tensor):
    """A CPU tensor `inner` that says it is on the GPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        dense = inner.layout == torch.strided
        placed = {"strides": inner.stride(), "storage_offset": inner.storage_offset()} if dense else {}
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device="cpu", requires_grad=inner.requires_grad, **placed
        )
        made.inner = inner.detach()
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise MixedDevicesError("numpy() of a tensor that is on the GPU; copy it to the CPU first")

    def tolist(self) -> Any:
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        _refuse_mixed(name, args, kwargs)
        if kwargs.get("device") is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if func._schema.is_mutable:
            return _mutated(func, args, kwargs, result)
        return tree_map(_wrapped, result)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Elsewhere) else value


def _wrapped(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere) else value


def _mutated(func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    """An operation in place returns its own arguments."""
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Elsewhere)]
    own = {id(x.inner): x for x in given}
    return tree_map(lambda x: own.get(id(x), _wrapped(x)), result)


def _refuse_mixed(name: str, args: Any, kwargs: Any) -> None:
    if name in _CROSSING:
        return
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    if name in _INDEXED and isinstance(args[0], Elsewhere):
        indices = {id(x) for x in tree_flatten(args[1])[0]}
        tensors = [x for x in tensors if id(x) not in indices]
    here = [x for x in tensors if not isinstance(x, Elsewhere) and x.dim()]
    if here and any(isinstance(x, Elsewhere) for x in tensors):
        raise MixedDevicesError(f"{name}: a tensor on the GPU meets one of shape {list(here[0].shape)} on the CPU")


def to_gpu(tensor: torch.Tensor) -> Elsewhere:
    """A copy on the pretended GPU, with gradients through the copy."""
    return tensor if isinstance(tensor, Elsewhere) else _ToGPU.apply(tensor)  # type: ignore[return-value]


def to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, with gradients through the copy."""
    return _ToCPU.apply(tensor) if isinstance(tensor, Elsewhere) else tensor  # type: ignore[return-value]


class _ToGPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Any) -> Any:
        return Elsewhere(tensor.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad.inner.clone()


class _ToCPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Any) -> Any:
        return tensor.inner.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return Elsewhere(grad.clone())


class _Mode(TorchFunctionMode):
    """Reads the device out of every call that names one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("to", "cuda", "cpu", "type_as") and args and isinstance(args[0], torch.Tensor):
            return self._moved(name, func, args, kwargs)
        if name == "pin_memory":
            return args[0]
        return _placed(func, args, kwargs)

    def _moved(self, name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor, rest = args[0], list(args[1:])
        if name == "type_as":
            wanted: torch.device | None = rest[0].device
        elif name in ("cuda", "cpu"):
            wanted, rest, kwargs = torch.device(name), [], {}
        else:
            wanted = _device_of(kwargs.pop("device", None))
            if rest and isinstance(rest[0], torch.Tensor):
                wanted, rest = rest[0].device, [rest[0].dtype, *rest[1:]]
            elif rest and _device_of(rest[0]) is not None:
                wanted, rest = _device_of(rest[0]), rest[1:]
        kwargs.pop("non_blocking", None)
        moved = tensor if wanted is None else to_gpu(tensor) if wanted.type == "cuda" else to_cpu(tensor)
        dtype = kwargs.get("dtype") or next((value for value in rest if isinstance(value, torch.dtype)), None)
        return moved if dtype is None else torch.Tensor.to(moved, dtype)


def _placed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call a function on the CPU, its result being where its `device` says."""
    wanted = _device_of(kwargs.get("device"))
    if wanted is None:
        return func(*args, **kwargs)
    result = func(*args, **kwargs | {"device": torch.device("cpu")})
    return tree_map(_wrapped, result) if wanted.type == "cuda" else result


def _device_of(value: Any) -> torch.device | None:
    if isinstance(value, torch.device):
        return value
    if isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda"):
        return torch.device(value)
    return None


class _NoGradInstead:
    """`torch.inference_mode` as `torch.no_grad`: views of wrapped tensors cannot be made in the former."""

    @staticmethod
    def enter(mode: Any) -> None:
        mode.before = torch.is_grad_enabled()
        torch.set_grad_enabled(False)

    @staticmethod
    def leave(mode: Any, *_: Any) -> None:
        torch.set_grad_enabled(mode.before)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """While this lasts, `cuda` is the pretended GPU."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    answers = {
        "is_available": True,
        "device_count": 1,
        "mem_get_info": (1 << 36, 1 << 36),
        "memory_reserved": 0,
        "memory_allocated": 0,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch(f"torch.cuda.{name}", lambda *_, answer=answer: answer))
        for name in FACTORIES:  # the mode is off inside backward passes
            made = partial(lambda factory, *args, **kwargs: _placed(factory, args, kwargs), getattr(torch, name))
            stack.enter_context(patch(f"torch.{name}", made))
        stack.enter_context(patch.object(torch.inference_mode, "__enter__", _NoGradInstead.enter))
        stack.enter_context(patch.object(torch.inference_mode, "__exit__", _NoGradInstead.leave))
        stack.enter_context(_Mode())
        try:
            yield GPU
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
