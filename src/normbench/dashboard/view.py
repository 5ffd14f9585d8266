"""What a dashboard shows, as a value: its name and project, its metric, and which runs."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from normbench.errors import InputError
from normbench.labels import field as setting
from normbench.labels import varying
from normbench.record import Record
from normbench.tracking.wandb_fields import cell, group_of, metrics

#: Colours that people with colour-blindness tell apart (Okabe and Ito 2008), without the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True)
class View:
    """The contents of a workspace or a report.

    Attributes:
        name:    of the view, without the word normbench.
        project: of wandb.
        entity:  user or team; empty: the owner of the key.
        metric:  the metric of the panels, under its name on the dashboard.
        by:      what makes the curves, bars and colours: `cell` or `group`; see `grouping`.
        groups:  only runs of these groups; empty: all.
        tags:    only runs that have all these tags.
        colours: the colour of every cell or group. Those of one norm have the same.
    """

    name: str
    project: str
    entity: str = ""
    metric: str = "test_error"
    by: Literal["cell", "group"] = "cell"
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name on the dashboard; wandb takes 128 characters."""
        return f"normbench {self.name}"[:128]


def check_name(name: str) -> None:
    """Refuse a name with symbols, because wandb-workspaces takes them for emojis.

    Raises:
        InputError: names the characters.
    """
    wrong = [char for char in name if unicodedata.category(char) in ("So", "Sk", "Sm", "Sc", "Cs")]
    if wrong or not name.strip():
        listed = " ".join(dict.fromkeys(wrong)) or "no character"
        raise InputError(f"the name of a view must be text without symbols; got '{name}' with {listed}")


def name_of(conditions: Sequence[str]) -> str:
    """The name of a view from the conditions of `--where`, without symbols.

    >>> name_of(["norm=bn,gn", "batch!=2"]), name_of([])
    ('norm bn,gn batch not 2', 'all runs')
    """
    text = " ".join(conditions).replace("!=", " not ")
    return "".join(" " if unicodedata.category(char)[0] == "S" else char for char in text) or "all runs"


def dashboard_name(metric: str) -> str:
    """A metric under its name on the dashboard.

    >>> dashboard_name("test_error@batch")
    'test_error_batch'
    """
    [found] = metrics({metric: 0})
    return found


def grouping(records: Sequence[Record]) -> Literal["cell", "group"]:
    """The key that never pools two configurations: the short `cell` if that is sure, else `group`.

    A cell names what varies in the sweep of its run. Runs of several sweeps may differ in a field that none
    of them varies. That cannot happen if norm, batch and model tell all groups apart.
    """
    return "cell" if len({cell(r.spec) for r in records}) == len({group_of(r) for r in records}) else "group"


def colours_of(records: Sequence[Record], by: Literal["cell", "group"]) -> dict[str, str]:
    """Cell or group → colour. Those of one norm have one colour, so that it is the same in every panel."""
    fields = varying([record.spec for record in records])
    norms = list(dict.fromkeys(setting(record.spec, "norm") for record in records))
    chosen = {norm: COLOURS[place % len(COLOURS)] for place, norm in enumerate(norms)}
    return {
        (cell(record.spec, fields) if by == "cell" else str(group_of(record))): chosen[
            setting(record.spec, "norm")
        ]
        for record in records
    }
