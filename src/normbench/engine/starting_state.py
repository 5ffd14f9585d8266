"""Start a run from a stored state (`model.weights`): the final state of another run, or a file like it.

Every tensor outside the norms must be there under its name and in its shape: weights, biases, factors of
weight maps, scalars of residual branches. Nothing else may be there, but for an average of the weights
(`average.*`). It is left out: a run with `optim.ema` starts its average at its starting weights.

Norms may be of another method. Then they take over what `norms.convert` would: γ and β, and running
statistics between methods of the family of batch statistics. A norm of the same method also takes over its
running statistics and all else that both have in one shape. What a norm does not find keeps its initial
value. The metadata of the file name the norm of the state; for older files their record does. If neither
does, the state counts as one of the run's own norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from normbench import models, norms, stored_state
from normbench.data.shape import Shape
from normbench.engine.lane_assignment import LaneAssignment
from normbench.engine.state import of_run
from normbench.errors import InputError
from normbench.models import Network
from normbench.norms import Norm
from normbench.norms.surgery.kept_state import kept_names
from normbench.spec import RunSpec

_REMEDY = "the run needs the model, the placement and the biases (model.bias) of the state"
_AVERAGE = "average."


def check(spec: RunSpec, image: Shape) -> None:
    """Refuse a run whose state does not fit its network, before it starts.

    Raises:
        InputError: names the first tensor that differs; or the file cannot be read, or has changed.
    """
    network = models.build([spec], image, dry=True)
    assignment = LaneAssignment([spec])
    whole = of_run(network.state_dict(), assignment, 0, 0)
    _matching(spec, network, whole, _file(spec))


@torch.no_grad()
def load(network: Network, assignment: LaneAssignment) -> None:
    """Copy the states of the runs that have one into a network before its first step, with all banks.

    Raises:
        InputError: as `check`.
    """
    for lane, spec in enumerate(assignment.lanes):
        if spec.model.weights is None:
            continue
        file = _file(spec)
        for bank in range(assignment.banks):
            own = of_run(network.state_dict(), assignment, lane, bank)
            names = _matching(spec, network, own, file)
            with safe_open(file, framework="pt") as opened:
                for name in names:
                    own[name].copy_(opened.get_tensor(name))


def _file(spec: RunSpec) -> Path:
    """The file of a run's state, if it has the content that the run's signature names."""
    given, file = stored_state.locate(spec.model.weights)
    found = stored_state.contents(file).digest
    if found != spec.model.weights_hash:
        raise InputError(
            f"model.weights={given} must not change while a command runs; the hash of its content was "
            f"{spec.model.weights_hash} and is now {found}; repeat the command"
        )
    return file


def _matching(spec: RunSpec, network: Network, own: Mapping[str, Tensor], file: Path) -> list[str]:
    """The names of the tensors that the run takes from the file.

    Args:
        own: the tensors of the run's lane, by the names of a lone run.
    """
    _, shapes, norm = stored_state.contents(file)
    if norm is not None and norm not in norms.catalogue():
        raise InputError(f"model.weights={spec.model.weights}: its norm '{norm}' is not known here")
    prefixes = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, Norm))
    names = [name for name in own if not name.startswith((_AVERAGE, *prefixes))]
    for name in names:
        if name not in shapes:
            raise _misfit(spec, f"the state has no {name} of shape {tuple(own[name].shape)}")
        if shapes[name] != own[name].shape:
            wanted, found = tuple(own[name].shape), shapes[name]
            raise _misfit(spec, f"{name} must have the shape {wanted}; that of the state has {found}")
    for name in sorted(shapes):
        if name not in own and not name.startswith((_AVERAGE, *prefixes)):
            raise _misfit(spec, f"the run has no {name}, which the state has")
    parameters = {name for name, _ in network.named_parameters()}
    for prefix in prefixes:
        needed = [name.removeprefix(prefix) for name in own if name.startswith(prefix)]
        common = [
            n for n in needed if f"{prefix}{n}" in shapes and shapes[prefix + n] == own[prefix + n].shape
        ]
        learned = [n for n in needed if prefix + n in parameters]
        kept = kept_names(norm or spec.norm.name, spec.norm.name, common, learned, needed)
        names += [prefix + n for n in kept]
    return names


def _misfit(spec: RunSpec, difference: str) -> InputError:
    return InputError(f"model.weights={spec.model.weights}: {difference}; {_REMEDY}")
