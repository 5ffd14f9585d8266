"""Which layer of a model hands its output to which other one, and to nothing else."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain, pairwise

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from normbench.errors import InputError
from normbench.norms.linear_view import is_stacked
from normbench.norms.surgery.recognise import recognize

#: Layer → the one layer that reads it. Every output of the first goes to the second and nowhere else, the
#: second gets no other input, and nobody else reads their parameters. torch.nn.Identity is looked through.
Links = dict[nn.Module, nn.Module]


def wiring(model: nn.Module) -> Links:
    """The links as `traced` has them; where a model cannot be traced, as `adjacent` has them."""
    try:
        return traced(model)
    except InputError:
        return adjacent(model)


def traced(model: nn.Module) -> Links:
    """The links of a model in its present mode, seen by torch.fx, optional arguments at their defaults.

    Raises:
        InputError: the forward pass cannot be traced, since it depends on its input.
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    graph = _graph(model)
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
            if len(calls[other]) == len(nodes):  # every call of it reads one of these
                links[layer] = other
    taken = _taken_out(model, graph)
    return {layer: other for layer, other in links.items() if not {layer, other} & taken}


def _taken_out(model: nn.Module, graph: fx.Graph) -> set[nn.Module]:
    """Layers whose parameters something else reads, too."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    targets = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    read = {id(parameters[target]) for target in targets & parameters.keys()}
    return {m for m in model.modules() if any(id(p) in read for p in m.parameters(recurse=False))}


def _reader(node: fx.Node) -> str | None:
    """The layer that alone reads a value, and nothing but this value."""
    user, *others = [*node.users, None]
    if user is None or others != [None] or user.op != "call_module":
        return None
    return str(user.target) if user.args == (node,) and not user.kwargs else None


class _Tracer(fx.Tracer):
    """Sees norm and linear layers as wholes, whoever wrote them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # decided beforehand: in tracing a look at a parameter counts as the model's
        self.wholes = {m for m in model.modules() if recognize(m) is not None or is_stacked(m)}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = m in self.wholes or isinstance(m, _ConvNd | nn.Linear)
        return whole or super().is_leaf_module(m, module_qualified_name)


def _graph(model: nn.Module) -> fx.Graph:
    """The graph of a forward pass, made on a copy: symbols that the pass keeps do not stay in the model."""
    signature = inspect.signature(model.forward).parameters.values()
    optional = {p.name: p.default for p in signature if p.default is not p.empty}
    tensors = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}  # not copied
    try:
        if "forward" in vars(model):
            raise TypeError("its forward was replaced")
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            twin = copy.deepcopy(model, tensors)
            return _Tracer(twin).trace(twin, concrete_args=optional or None)
    except Exception as error:  # whatever a foreign forward makes of symbols
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"torch.fx cannot trace a {type(model).__name__}: {reason}") from None


def adjacent(model: nn.Module) -> Links:
    """The links that follow from the order in nn.Sequential, of layers that stand in one place.

    They hold where such a container is called as a whole.
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
        if _runs_in_order(child) and places[child] == 1:
            yield from _flat(child, places)
        elif type(child) is not nn.Identity:
            yield child


def _runs_in_order(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
