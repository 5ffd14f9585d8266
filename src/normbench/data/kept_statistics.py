"""Statistics of streamed training images, kept on disk: computing them reads every image once."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from normbench.data.folder import place
from normbench.data.moments import Moments, statistics
from normbench.data.streamed import StreamedImages
from normbench.files import write_atomically
from normbench.spec import DataSpec


def kept_statistics(spec: DataSpec, images: Tensor | StreamedImages, cache: Path | None) -> Moments:
    """`moments.statistics` of the training images of a run, fitted to the model."""
    if isinstance(images, Tensor) or spec.standardize in ("image", "none"):
        return statistics(spec.standardize, images)
    decoded = place(spec, cache)
    # The images and their number follow from these. `rows` says which images the validation split left.
    chosen = hashlib.sha256(images.rows.tobytes()).hexdigest()[:16]
    name = f"{spec.standardize}-{images.shape[-1]}-{chosen}"
    file = decoded and decoded.with_name(f"{decoded.name}-{name}.json")
    if file is not None and (known := _read(file)) is not None:
        return known
    found = statistics(spec.standardize, images)
    if file is not None:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(found))
    return found


def _read(file: Path) -> Moments | None:
    try:
        mean, std = json.loads(file.read_text(encoding="utf-8"))
        return tuple(map(float, mean)), tuple(map(float, std))
    except (OSError, ValueError, TypeError):
        return None
