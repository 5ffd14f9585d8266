"""Find pairs of layers in which one layer alone reads the output of the other."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from itertools import chain, pairwise
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from normbench.errors import InputError
from normbench.norms.linear_view import is_stacked
from normbench.norms.surgery.hooks import has_call_hooks
from normbench.norms.surgery.recognise import recognize

#: Layer → the only layer that reads it. Every output of the first goes to the second and nowhere else. The
#: second has no other input. Nothing else reads the parameters of the two. torch.nn.Identity is skipped.
Links = dict[nn.Module, nn.Module]


def links_of(model: nn.Module) -> Links:
    """The links from `traced`; from `adjacent` if the model cannot be traced."""
    try:
        return traced(model)
    except InputError:
        return adjacent(model)


def traced(model: nn.Module) -> Links:
    """The links that torch.fx finds, in the present mode, with optional arguments at their defaults.

    Raises:
        InputError: torch.fx cannot trace the forward pass.
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    graph = graph_of(model)
    calls: dict[nn.Module, list[fx.Node]] = defaultdict(list)
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        layer = layers[str(node.target)]
        if type(layer) is nn.Identity and len(node.args) == 1:
            (passed,) = node.args
            node.replace_all_uses_with(passed)
            graph.erase_node(node)
        else:
            calls[layer].append(node)
    links: Links = {}
    for layer, nodes in calls.items():
        readers = {_reader(node) for node in nodes}
        reading = {layers[target] for target in readers if target is not None}
        if None not in readers and len(reading) == 1:
            (other,) = reading
            if len(calls[other]) == len(nodes):  # no call of it reads anything else
                links[layer] = other
    read = read_elsewhere(model, graph)
    return {layer: other for layer, other in links.items() if not {layer, other} & read}


def parameters_read_elsewhere(model: nn.Module) -> set[nn.Module]:
    """Layers whose parameters are also read outside of the layer; none if the model cannot be traced."""
    try:
        return read_elsewhere(model, graph_of(model))
    except InputError:
        return set()


def read_elsewhere(model: nn.Module, graph: fx.Graph) -> set[nn.Module]:
    """Layers whose parameters are also read outside of the layer."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    targets = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    read = {id(parameters[target]) for target in targets & parameters.keys()}
    return {m for m in model.modules() if any(id(p) in read for p in m.parameters(recurse=False))}


def _reader(node: fx.Node) -> str | None:
    """The only layer that reads a value, if the value is its only input."""
    user, *others = [*node.users, None]
    if user is None or others != [None] or user.op != "call_module":
        return None
    return str(user.target) if user.args == (node,) and not user.kwargs else None


class _Tracer(fx.Tracer):
    """Does not look inside norm and linear layers."""

    def __init__(self, model: nn.Module, opaque: Collection[str] = ()) -> None:
        super().__init__()
        self.opaque = opaque
        # found before tracing, in which reading a parameter would add a node to the graph
        # what hooks on a container see must not change, so nothing inside of it is linked
        self.leaves = {
            m for m in model.modules() if recognize(m) is not None or is_stacked(m) or has_call_hooks(m)
        }

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = m in self.leaves or isinstance(m, _ConvNd | nn.Linear) or module_qualified_name in self.opaque
        return leaf or super().is_leaf_module(m, module_qualified_name)


def steps_of(model: nn.Module, opaque: Collection[str] = ()) -> list[Any]:
    """The operations of a forward pass in order, each with its target and its constant arguments.

    Args:
        model:  any module.
        opaque: paths of modules to treat as one operation, besides norms and layers of torch.

    Raises:
        InputError: torch.fx cannot trace the forward pass.
    """

    def constants(arguments: Any) -> str:
        return repr(fx.node.map_arg(arguments, lambda node: None))

    nodes = graph_of(model, opaque).nodes
    return [(n.op, str(n.target), constants(n.args), constants(n.kwargs)) for n in nodes]


def graph_of(model: nn.Module, opaque: Collection[str] = ()) -> fx.Graph:
    """The graph of a forward pass. A copy is traced, so that no symbol stays in the model."""
    signature = inspect.signature(model.forward).parameters.values()
    optional = {p.name: p.default for p in signature if p.default is not p.empty}
    tensors = {id(tensor): tensor for tensor in _tensors(model)}  # not copied
    try:
        if "forward" in vars(model):
            raise TypeError("its forward was replaced")
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            twin = copy.deepcopy(model, tensors)
            return _Tracer(twin, opaque).trace(twin, concrete_args=optional or None)
    except Exception as error:  # a forward from elsewhere may raise anything on symbols
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"torch.fx cannot trace a {type(model).__name__}: {reason}") from None


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, buffers and plain tensors such as pruned weights, which cannot be copied."""
    yield from chain(model.parameters(), model.buffers())
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))


def adjacent(model: nn.Module) -> Links:
    """The links between neighbours in nn.Sequential, for layers that stand in one place only.

    They are right if each such container is called as a whole.
    """
    places = Counter(child for module in model.modules() for child in module._modules.values() if child)
    links: Links = {}
    for module in model.modules():
        if _runs_in_order(module):
            chain = list(_flat(module, places))
            links |= {a: b for a, b in pairwise(chain) if places[a] == places[b] == 1}
    return links


def _flat(container: nn.Module, places: Counter[nn.Module]) -> Iterator[nn.Module]:
    for child in container._modules.values():
        assert child is not None  # nn.Sequential would fail, too
        if _runs_in_order(child) and places[child] == 1 and not has_call_hooks(child):
            yield from _flat(child, places)
        elif type(child) is not nn.Identity:
            yield child


def _runs_in_order(module: nn.Module) -> bool:
    if not isinstance(module, nn.Sequential):
        return False
    return type(module).forward is nn.Sequential.forward and "forward" not in vars(module)
