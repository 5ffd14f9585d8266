"""What workers must know of the command that they work for. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Command:
    """What workers must know of the command.

    Attributes:
        places:   signature → time of the command and position of the run in it, as sortable text.
        failures: signature → when the run had failed before the command began.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def of(self, signatures: Iterable[str]) -> Command:
        """The part that concerns some runs."""
        known = list(signatures)
        return Command(*({s: each[s] for s in known if s in each} for each in (self.places, self.failures)))


#: Of work that no command asked for.
NOBODY = Command()
