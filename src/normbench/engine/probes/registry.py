"""From the name of a diagnostic to its probe: the module has the name, the class is the same in CamelCase.

The diagnostics of plugins are in their own registry.
"""

from __future__ import annotations

from importlib import import_module

from normbench import models, parts
from normbench.data.shape import Shape
from normbench.diagnostics import Diagnostic, parse_all
from normbench.engine.probes.protocol import Probe
from normbench.spec import RunSpec


def check(spec: RunSpec, image: Shape) -> None:
    """Refuse diagnostics that do not fit a run, before it starts.

    Raises:
        InputError: as the `check` of the probes.
    """
    probes = [probe_of(asked) for asked in parse_all(spec.diagnostics)]
    checking = [probe for probe in probes if type(probe).check is not Probe.check]
    if not checking:
        return
    network = models.build([spec], image, dry=True)
    for probe in checking:
        probe.check(network, image)


def probe_of(asked: Diagnostic) -> Probe:
    """The probe of a request.

    >>> type(probe_of(Diagnostic("running_error"))).__name__
    'RunningError'
    """
    if (part := parts.find("diagnostic", asked.name)) is not None:
        own: Probe = part.made(asked.argument)
        return own
    module = import_module(f"normbench.engine.probes.{asked.name}")
    made: Probe = getattr(module, asked.name.title().replace("_", ""))(asked.argument)
    return made
