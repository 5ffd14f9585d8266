"""Workload: runs whose steps cost the same on this machine, and what was measured of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from normbench import models
from normbench.autotune.cores import thread_count
from normbench.autotune.memory import lanes_that_fit
from normbench.autotune.tuning import Measurement, nearest
from normbench.autotune.tuning_cache import read, tuning_file
from normbench.data.shape import Shape
from normbench.data.shapes import shape_of
from normbench.engine.device import device_name, find_device
from normbench.engine.free_memory import free_bytes
from normbench.spec import RunSpec

#: Version of how measurements are taken. A new version does not read measurements of an older one.
SCHEMA = 2


@dataclass
class Workload:
    """Runs whose steps cost the same.

    key:          what they have in common, and the machine.
    file:         holds the measurements.
    shape:        of the data as the model gets them.
    device:       that trains them.
    lane_bytes:   bytes of one lane in training, computed from shapes.
    image_bytes:  of these, bytes of one image and its activations.
    measurements: by width.
    searched:     stacks of up to so many lanes need no further measurement.
    day:          of the last measurement, as YYYY-MM-DD; "" if there is none.
    """

    key: dict[str, Any]
    file: Path
    shape: Shape
    device: torch.device
    lane_bytes: int
    image_bytes: int
    measurements: dict[int, Measurement] = field(default_factory=dict)
    searched: int = 0
    day: str = ""

    def nearest(self, lanes: int) -> Measurement | None:
        """The measurement of the nearest width; None if nothing was measured."""
        return nearest(self.measurements.values(), lanes)

    def lanes_that_fit(self, stacks: int) -> int:
        """The most lanes of a stack that fit into memory now, if that many stacks train at the same time."""
        measured = (each.stack_bytes // each.lanes for each in self.measurements.values())
        return lanes_that_fit(max(measured, default=self.lane_bytes), stacks, free_bytes(self.device))


def workload_of(spec: RunSpec, cache: Path, stacks: int) -> Workload:
    """The workload of a run, with the measurements that the cache folder holds.

    Args:
        cache:  the results' cache folder.
        stacks: that train at the same time.

    Raises:
        InputError: the run cannot be built as asked.
    """
    device = find_device(spec.engine.device)
    shape = models.fitted(spec, shape_of(spec.data, cache))
    key = {
        "schema": SCHEMA, "torch": torch.__version__, "device": device_name(device), "stacks": stacks,
        "threads": thread_count(spec) if stacks == 1 else 1, **_step_fields(spec, shape),
    }  # fmt: skip
    file = tuning_file(cache, key)
    footprints = models.footprint(spec, shape), models.image_footprint(spec, shape)
    return Workload(key, file, shape, device, *footprints, **read(file, key))


def _step_fields(spec: RunSpec, shape: Shape) -> dict[str, Any]:
    """The fields of a run that change what a step costs."""
    tree = spec.model_dump(mode="json", include={"model", "norm", "weight", "placement", "batch", "workers"})
    for knob in ("momentum", "eps"):
        tree["norm"].pop(knob)
    if spec.plugins:
        tree["plugins"] = spec.plugins
    if spec.data.standardize == "image":  # statistics per image take time in the step
        tree["standardize"] = "image"
    return {
        **tree, "channels": shape.channels, "size": shape.size, "classes": shape.classes,
        "flip": spec.data.flip, "crop": spec.data.crop, "optim": spec.optim.name, "clip": spec.optim.clip,
        "engine": spec.engine.model_dump(mode="json", exclude={"device", "devices", "lanes", "processes"}),
    }  # fmt: skip
