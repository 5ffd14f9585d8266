"""One encoded image: its header and its pixels. Any decoder error is passed on; the caller names the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from normbench.data.limits import check
from normbench.data.raw import Images

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY = ("1", "L", "LA", "La")
#: Pillow's names of what holds more than 8 bits a channel. Its conversion to 8 bits would clip, not scale.
_DEEP = ("I", "F")
#: The formats of the suffixes in `data.folder_names`. Pillow knows others, and runs Ghostscript for one.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ORIENTATION = 0x0112  # the EXIF tag; 1: as stored
#: Width and height of an image → top, left, height and width of a box in it.
Crop = Callable[[int, int], tuple[int, int, int, int]]


class Look(NamedTuple):
    """What the header of an image says."""

    width: int
    height: int
    colour: bool
    animated: bool  # more than one frame; the first one is used
    turned: bool  # EXIF asks viewers to turn or mirror it; not done here


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hide Pillow's warnings, one per file: damaged EXIF and tags, many pixels. Errors still raise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def look(content: bytes) -> Look:
    """Read the header of an image.

    Raises:
        Exception: this is no image, it is damaged, or it has more than 8 bits a channel.
    """
    with _open(content) as image:
        return Look(*image.size, image.mode not in _GREY, _animated(image), _turned(image))


def decode(content: bytes, channels: int, size: int, center: float = 1.0, crop: Crop | None = None) -> Images:
    """Decode to (C, size, size) uint8: grey or RGB, a square, resized bilinearly with antialiasing.

    Transparency is dropped, as torchvision's ImageFolder does.

    Args:
        center: share of the shorter side that the middle square keeps.
        crop:   takes the width and height of the image, and gives the box to resize: (top, left, height,
                width). None: the middle square.

    Raises:
        Exception: as `look`.
    """
    from PIL import Image, ImageOps

    with _open(content) as opened:
        if opened.mode == "P" and "transparency" in opened.info:
            opened = opened.convert("RGBA")  # Pillow warns about the direct way; the pixels are the same
        image = opened.convert("L" if channels == 1 else "RGB")
    if crop is not None or center < 1:
        image = _cropped(image, size, center, crop)
    elif image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def _cropped(image: Image, size: int, center: float, crop: Crop | None) -> Image:
    """torchvision's transforms: a box of the image resized, or Resize and CenterCrop."""
    from torchvision.transforms import v2  # PERF: the import takes a second

    cropped: Image
    if crop is not None:
        box, side = crop(*image.size), [size, size]
        cropped = v2.functional.resized_crop(image, *box, side, v2.InterpolationMode.BILINEAR, antialias=True)
    else:
        whole = v2.functional.resize(image, [round(size / center)], v2.InterpolationMode.BILINEAR)
        cropped = v2.functional.center_crop(whole, [size, size])
    return cropped


def _animated(image: Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # later frames are damaged; the first one is used
        return True


def _turned(image: Image) -> bool:
    if "exif" not in image.info:  # `getexif` of some formats reads the whole file
        return False
    try:
        return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return False


def _open(content: bytes) -> Image:
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise ValueError("the file is empty")
    try:
        Image.MAX_IMAGE_PIXELS = None  # the limit below takes its place, and can be raised
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"the content is none of {', '.join(_FORMATS)}") from None
    check("PIXELS", image.width * image.height, f"{image.width}×{image.height} pixels")
    if image.mode.startswith(_DEEP):
        raise ValueError(f"Pillow mode {image.mode}: images must have 8 bits a channel")
    return image
