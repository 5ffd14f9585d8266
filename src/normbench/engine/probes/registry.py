"""From the name of a diagnostic to its probe: the module has the name, the class is the same in CamelCase."""

from __future__ import annotations

from importlib import import_module

from normbench import models
from normbench.data.shape import Shape
from normbench.diagnostics import Diagnostic, parse_all
from normbench.engine.probes.protocol import Probe
from normbench.spec import RunSpec


def check(spec: RunSpec, image: Shape) -> None:
    """Refuse diagnostics whose arguments do not fit a run, before it starts.

    Raises:
        InputError: a site or a channel that the network does not have.
    """
    with_argument = [asked for asked in parse_all(spec.diagnostics) if asked.argument]
    if not with_argument:
        return
    layers = models.build([spec], image, dry=True).norms()
    for asked in with_argument:
        probe_of(asked).check({site: layer.channels for site, layer in layers.items()})


def probe_of(asked: Diagnostic) -> Probe:
    """The probe of a request.

    >>> type(probe_of(Diagnostic("running_error"))).__name__
    'RunningError'
    """
    module = import_module(f"normbench.engine.probes.{asked.name}")
    made: Probe = getattr(module, asked.name.title().replace("_", ""))(asked.argument)
    return made
