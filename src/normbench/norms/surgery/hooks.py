"""Hooks on a layer: find them, and move them to the layer that replaces it."""

from __future__ import annotations

from torch import nn

#: Hooks that see inputs, outputs and their gradients. Any layer of the same shape can carry them.
_CALL_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
#: What torch keeps beside them.
_FLAGS = ("_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")


def has_hooks(layer: nn.Module) -> bool:
    """Whether anything is called when the layer is called, differentiated, saved or loaded."""
    return has_call_hooks(layer) or bound_hooks(layer) is not None


def has_call_hooks(layer: nn.Module) -> bool:
    """Whether the layer has hooks that `move_hooks` can move."""
    return any(vars(layer).get(name) for name in _CALL_HOOKS)


def bound_hooks(layer: nn.Module) -> str | None:
    """The reason why hooks of a layer cannot move to another one; None if they can.

    Hooks on saving and loading know the entries of its state. Hooks on a parameter belong to that tensor.
    """
    for name, hooks in vars(layer).items():
        if name.endswith("_hooks") and hooks and name not in _CALL_HOOKS:
            return f"it has {name.strip('_').replace('_', ' ')}"
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"its {name} has hooks"
    return None


def move_hooks(old: nn.Module, new: nn.Module) -> bool:
    """Let a new layer have the old one's hooks, and whether there were any.

    Both share the same dictionaries, so that handles given out by `register_forward_hook` still remove.
    """
    if not has_call_hooks(old):
        return False
    for name in (*_CALL_HOOKS, *_FLAGS):
        setattr(new, name, getattr(old, name))
    new._is_full_backward_hook = old._is_full_backward_hook
    return True
