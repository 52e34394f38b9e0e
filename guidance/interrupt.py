"""Stopping in the middle of a step: on a CPU one step of a large model takes many seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn


@contextlib.contextmanager
def interruptible(parts: Iterable[object], check: Callable[[], None]) -> Iterator[None]:
    """Inside, `check` is called before each layer of the parts and in the backward pass of each.

    `parts` are generators and CLIPs, or anything whose attributes are torch modules. `check` may
    raise: the step is lost, the latent and the models stay as they were.
    """
    layers = {layer for part in parts for layer in _layers(part)}
    hooks = [layer.register_forward_hook(_watch(check)) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _layers(part: object) -> Iterator[nn.Module]:
    """The modules inside that hold no others."""
    modules = [value for value in vars(part).values() if isinstance(value, nn.Module)]
    return (layer for module in modules for layer in module.modules() if not any(layer.children()))


def _watch(check: Callable[[], None]) -> Callable[[nn.Module, object, object], None]:
    def backward(gradient: Tensor) -> None:
        check()

    def forward(layer: nn.Module, inputs: object, output: object) -> None:
        check()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(backward)

    return forward
