"""What stands before and after each norm: the layers into which `fold` can move it, or why there are none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import fx, nn

from normbench.norms.linear_view import Linear, is_stacked, linear
from normbench.norms.surgery.dataflow import Links, adjacent, graph_of, read_elsewhere
from normbench.norms.surgery.known_layers import departure, replaced_on_instance
from normbench.norms.surgery.pass_through import how_call_passes, how_layer_passes

KINDS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


@dataclass(frozen=True)
class Neighbour:
    """A convolution or linear layer, and how the layers between it and a norm pass values on.

    Attributes:
        layer: the layer as `Linear`.
        path:  words of `pass_through`, in the order of the forward pass.
    """

    layer: Linear
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of one norm.

    Attributes:
        before:     the layer that feeds the norm and nothing else.
        after:      the layers that read the norm and nothing else; none if anything else reads it.
        why_before: why `before` is None.
        why_after:  why `after` is empty.
    """

    before: Neighbour | None = None
    after: tuple[Neighbour, ...] = ()
    why_before: str = ""
    why_after: str = ""


def plain_linear(layer: nn.Module) -> Linear | None:
    """A layer as `Linear` if it computes y = W x + b and nothing else, whatever its subclass says."""
    seen = linear(layer)
    if seen is None:
        return None
    base = next((base for base in type(layer).__mro__ if base in KINDS), None)
    if is_stacked(layer) or base is None:
        return seen if replaced_on_instance(layer) is None else None
    return seen if departure(layer, base) is None else None


def traced_neighbours(model: nn.Module) -> Callable[[nn.Module], Neighbours]:
    """The neighbours of any layer of a model as torch.fx sees them.

    Raises:
        InputError: torch.fx cannot trace the forward pass.
    """
    return _Traced(model).of


def adjacent_neighbours(model: nn.Module) -> Callable[[nn.Module], Neighbours]:
    """The neighbours of any layer that follow from the order in nn.Sequential."""
    after = adjacent(model)
    before: Links = {reader: layer for layer, reader in after.items()}
    paths = {module: path for path, module in model.named_modules()}

    def walk(links: Links, layer: nn.Module, verb: str) -> tuple[Neighbour | None, str]:
        path: list[str] = []
        while (other := links.get(layer)) is not None:
            if (seen := plain_linear(other)) is not None:
                return Neighbour(seen, tuple(path if links is after else path[::-1])), ""
            if (word := how_layer_passes(other)) is None:
                return None, f"{paths[other]} ({type(other).__name__}) {verb} it"
            path.append(word)
            layer = other
        return None, f"which layer {verb} it is not known"

    def of(layer: nn.Module) -> Neighbours:
        (feeder, why_before), (reader, why_after) = walk(before, layer, "feeds"), walk(after, layer, "reads")
        return Neighbours(feeder, (reader,) if reader else (), why_before, why_after)

    return of


class _Traced:
    def __init__(self, model: nn.Module) -> None:
        self.layers = dict(model.named_modules(remove_duplicate=False))
        self.graph = graph_of(model)
        self.read_elsewhere = read_elsewhere(model, self.graph)
        self.calls: dict[nn.Module, list[fx.Node]] = defaultdict(list)
        for node in self.graph.nodes:
            if node.op == "call_module":
                self.calls[self.layers[str(node.target)]].append(node)
        self.linears = {layer: seen for layer in self.calls if (seen := plain_linear(layer)) is not None}

    def of(self, layer: nn.Module) -> Neighbours:
        calls = self.calls.get(layer, [])
        if not calls:
            return Neighbours(why_before="the forward pass does not call it")
        if layer in self.read_elsewhere:
            return Neighbours(why_before="the model reads its parameters directly")
        before, why_before = self._before(calls)
        after, why_after = self._after(calls)
        return Neighbours(before, after, why_before, why_after)

    def _before(self, calls: list[fx.Node]) -> tuple[Neighbour | None, str]:
        found: set[tuple[nn.Module, tuple[str, ...]]] = set()
        for call in calls:
            path: list[str] = []
            node = call.args[0] if call.args else None
            while isinstance(node, fx.Node) and len(node.users) == 1 and (word := self._passes(node)):
                path.insert(0, word)
                node = node.args[0]
            if not isinstance(node, fx.Node):
                return None, "what feeds it is not known"
            layer = self._linear(node)
            if layer is None:
                return None, f"{self._name(node)} feeds it"
            if len(node.users) != 1 or layer in self.read_elsewhere:
                return None, f"{self._name(node)} feeds it and others"
            found.add((layer, tuple(path)))
        if len(found) > 1:
            return None, "several layers feed it"
        ((layer, words),) = found
        if len(self.calls[layer]) != len(calls):
            return None, f"{self._name(self.calls[layer][0])} feeds it and others"
        return Neighbour(self.linears[layer], words), ""

    def _after(self, calls: list[fx.Node]) -> tuple[tuple[Neighbour, ...], str]:
        found: dict[nn.Module, set[tuple[str, ...]]] = defaultdict(set)
        reached: dict[nn.Module, int] = defaultdict(int)
        for call in calls:
            for user, path in self._readers(call, ()):
                layer = self._linear(user)
                if layer is None:
                    return (), f"{self._name(user)} reads it"
                found[layer].add(path)
                reached[layer] += 1
        for layer, paths in found.items():
            call = self.calls[layer][0]
            if reached[layer] != len(self.calls[layer]) or len(paths) > 1 or layer in self.read_elsewhere:
                return (), f"{self._name(call)} reads it and others"
        return tuple(Neighbour(self.linears[layer], path) for layer, (path,) in found.items()), ""

    def _readers(self, node: fx.Node, path: tuple[str, ...]) -> Iterator[tuple[fx.Node, tuple[str, ...]]]:
        for user in node.users:
            word = self._passes(user)
            if word is None:
                yield user, path
            else:
                yield from self._readers(user, (*path, word))

    def _passes(self, node: fx.Node) -> str | None:
        if node.op == "call_module":
            one = len(node.args) == 1 and not node.kwargs
            return how_layer_passes(self.layers[str(node.target)]) if one else None
        return how_call_passes(node)

    def _linear(self, node: fx.Node) -> nn.Module | None:
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            return None
        layer = self.layers[str(node.target)]
        return layer if layer in self.linears else None

    def _name(self, node: fx.Node) -> str:
        if node.op == "call_module":
            layer = self.layers[str(node.target)]
            return f"{node.target} ({type(layer).__name__})"
        if node.op in ("placeholder", "output"):
            return f"the model's {'input' if node.op == 'placeholder' else 'output'}"
        return str(getattr(node.target, "__name__", node.target))
