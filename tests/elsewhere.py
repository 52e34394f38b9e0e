"""A GPU that is not there: tensors that say they are on it, and compute here.

As on a real one, an operation on tensors of two devices fails, numbers cannot be drawn there with
a generator of the CPU, and nothing reads them without fetching them first. What is computed is what
the CPU computes, but for the last digits: so code that works there, and gives the same, has put
every tensor in its place. How fast a real one is, and what its kernels round, it cannot say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from training import course
from training.course import State

GPU, CPU, NOWHERE = (torch.device(name) for name in ("cuda:0", "cpu", "meta"))
ATEN = torch.ops.aten
PICKS = {  # by numbers of rows, which may lie here
    ATEN.index.Tensor,
    ATEN.index_put.default,
    ATEN.index_put_.default,
    ATEN._index_put_impl_.default,
}
DESCENDS = {ATEN._fused_adam_.default, ATEN._fused_adamw_.default}


class There(torch.Tensor):
    """A tensor on the GPU that is not there; ``here`` has its numbers.

    For PyTorch's core it is a shape without numbers (on the device "meta").
    """

    here: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        """Send a tensor there."""
        there = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=NOWHERE,
            requires_grad=here.requires_grad,
        )
        there.here = here.detach()
        return there

    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> There:
        """A copy; of a parameter one."""
        copy = There(self.here.clone())
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A file holds the numbers."""
        return self.here.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute with the numbers, if all of them are there."""
        kwargs = kwargs or {}
        refuse_two_places(func, args, kwargs)
        if func in DESCENDS:  # reads memory as it lies, and only plain gradients lie as they should
            laid = [torch.empty_like(p.here).copy_(g.here) for p, g in zip(*args[:2], strict=True)]
            args = (args[0], tree_map(sent, laid), *args[2:])
        result = func(*tree_map(fetched, args), **tree_map(fetched, kwargs))
        if func is ATEN.copy_.default and not isinstance(args[0], There):
            return args[0]
        return return_and_correct_aliasing(func, args, kwargs, tree_map(sent, result))


def sent(x: Any) -> Any:
    """A tensor that has gone there; anything else stays what it is."""
    return There(x) if isinstance(x, torch.Tensor) and not isinstance(x, There) else x


def fetched(x: Any) -> Any:
    """A tensor that has come here; this device's name for the other's; anything else as it is."""
    if isinstance(x, torch.device):
        return CPU
    return x.here if isinstance(x, There) else x


def refuse_two_places(func: Any, args: Any, kwargs: Any) -> None:
    """Raise RuntimeError if not all are there.

    As on a real GPU, single numbers may be here where they meet others one by one and are not what
    is written to.
    """
    if func is ATEN.copy_.default:
        return
    one_by_one = torch.Tag.pointwise in func.tags
    for x in tree_leaves([args[0], *args[2:], kwargs] if func in PICKS else [args, kwargs]):
        if isinstance(x, torch.Generator):
            raise RuntimeError(f"{func}: a generator of the CPU draws no numbers on a GPU.")
        if not isinstance(x, torch.Tensor) or isinstance(x, There):
            continue
        written_to = func._schema.is_mutable and x is args[0]
        if x.dim() or not one_by_one or written_to:
            raise RuntimeError(f"{func}: of tensors on a GPU one is on the CPU, {tuple(x.shape)}.")


class Journeys(TorchFunctionMode):
    """What names the GPU as its place goes there, and what is fetched comes back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Before PyTorch looks for a driver."""
        kwargs = kwargs or {}
        if func is torch.Tensor.to:
            return carried(*args, **kwargs)
        if func in (torch.Tensor.cpu, torch.Tensor.tolist):
            return func(fetched(args[0]), *args[1:], **kwargs)
        if func is torch.Tensor.new_tensor and isinstance(args[0], There):
            return There(args[0].here.new_tensor(*args[1:], **kwargs))
        if func is torch.Tensor.numpy and isinstance(args[0], There):
            raise TypeError("A tensor on a GPU is no array; fetch it first.")
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = (args[0], without_lists(args[1]), *args[2:])
        if torch.device(kwargs.get("device") or CPU).type == "cuda":  # a new one
            if kwargs.get("generator"):
                raise RuntimeError(f"{func}: a generator of the CPU draws no numbers on a GPU.")
            return There(func(*args, **{**kwargs, "device": CPU}))
        return func(*args, **kwargs)


def carried(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``x.to(...)``: to a device, to a type, or to both of another tensor."""
    place, kind = kwargs.get("device"), kwargs.get("dtype")
    for asked in args:
        if isinstance(asked, torch.Tensor):
            place, kind = asked.device, asked.dtype
        elif isinstance(asked, torch.dtype):
            kind = asked
        elif isinstance(asked, (str, torch.device)):
            place = asked
    if place is not None and torch.device(place).type != x.device.type:
        x = fetched(x) if isinstance(x, There) else There(x)
    order = kwargs.get("memory_format") or torch.preserve_format
    return torch.Tensor.to(x, dtype=kind or x.dtype, memory_format=order)


def without_lists(index: Any) -> Any:
    """Lists of rows as tensors, or PyTorch would write them where nothing can be read."""
    if isinstance(index, tuple):
        return tuple(map(without_lists, index))
    return torch.tensor(index) if isinstance(index, list) else index


class Beginnings(TorchDispatchMode):
    """What PyTorch's core makes anew beside such tensors (zeros, on the way back) is one, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make it here and send it."""
        kwargs = kwargs or {}
        new = not any(isinstance(x, torch.Tensor) for x in tree_leaves(args))
        if new and kwargs.get("device") == NOWHERE:
            return There(func(*args, **{**kwargs, "device": CPU}))
        return func(*args, **kwargs)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Inside, ``.to("cuda")`` and ``device="cuda"`` lead to the GPU that is not there."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # not by ``p.data = ...``
    try:
        with Journeys(), Beginnings():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def learns_the_same_there(train: Callable[[str], State]) -> None:
    """Assert that a short training there, in full precision, gives the weights of one here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "halves_are_fast", lambda device: False)
        here = train("cpu").result().state_dict()
        with elsewhere():
            state = train("cuda")
            assert all(isinstance(part, There) for part in state.net.state_dict().values())
            result = state.result().state_dict()
    for name, ours in result.items():
        torch.testing.assert_close(ours, here[name], rtol=1e-3, atol=1e-4, msg=name)
