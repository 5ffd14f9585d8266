"""Tags of a tracker that say which paper table a run belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from normbench.tags import MOST


def tagged(config: Mapping[str, Any], *tags: str) -> dict[str, Any]:
    """A configuration with further tags. Without tags of its own it keeps those in WANDB_TAGS.

    >>> tagged({"tracking": {"tags": ["mine"]}}, "wu2018/batch_size", "tiny")
    {'tracking': {'tags': ['mine', 'wu2018/batch_size', 'tiny']}}
    """
    tracking = config["tracking"]
    own = tracking["tags"] or [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
    if not isinstance(own, list):
        return dict(config)  # refused later, with its reason
    every = dict.fromkeys([*own, *(tag[-MOST:] for tag in tags)])
    return {**config, "tracking": {**tracking, "tags": list(every)}}
