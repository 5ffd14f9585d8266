"""Limits on YAML that a user gives: size, depth, and nodes after all aliases are written out.

An alias of one line may stand for millions of nodes ("alias bomb"), and readers of YAML recurse. So a text is
checked by its events, which need neither, before anything is made of it.
"""

from __future__ import annotations

import yaml

from normbench.errors import InputError

#: Bytes of one file. Packaged files have at most 20 kB.
MOST_BYTES = 1 << 20
#: Nested lists and mappings. Packaged files have at most 8.
MOST_DEPTH = 32
#: Scalars, lists and mappings, each alias counted as what it stands for.
MOST_NODES = 20_000

# PERF: libyaml reads events 10 times faster than Python
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_yaml(text: str, called: str) -> None:
    """Refuse a text that is too large, too deep, or that its aliases make too large.

    Args:
        text:   a YAML document.
        called: what it is, in messages.

    Raises:
        InputError: a limit is passed; the message gives it. A syntax error is left to the reader of the text.
    """
    if len(text) > MOST_BYTES:
        raise InputError(f"{called} must have at most {MOST_BYTES:,} characters; it has {len(text):,}")
    try:
        _count(text, called)
    except yaml.YAMLError:
        return


def _count(text: str, called: str) -> None:
    sizes: dict[str, int] = {}  # anchor → nodes that an alias to it stands for
    open_nodes: list[tuple[str | None, int]] = []  # anchor of each open list or mapping, and nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise InputError(f"{called} has a list or mapping that contains itself (*{event.anchor})")
            nodes += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes |= {anchor: nodes - before} if anchor else {}
        if len(open_nodes) > MOST_DEPTH:
            raise InputError(f"{called} must be nested at most {MOST_DEPTH} deep; it is deeper")
        if nodes > MOST_NODES:
            raise InputError(
                f"{called} must have at most {MOST_NODES:,} values, aliases counted; it has more"
            )
