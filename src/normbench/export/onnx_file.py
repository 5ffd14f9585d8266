"""A trained network as an ONNX file, with outputs checked by onnxruntime if that is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path

import torch

from normbench.errors import InputError, RunFailure, reason
from normbench.export.parts import TrainedNetwork

NAME = "model.onnx"
_NEEDED = ("onnx", "onnxscript")
#: Largest difference of outputs, relative to the largest one, that counts as rounding.
TOLERANCE = 1e-4


def check_packages() -> None:
    """Refuse if torch.onnx lacks what it needs.

    Raises:
        InputError: names the package.
    """
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"--onnx needs {name}, which is not installed: pip install 'normbench[onnx]'")


def write_onnx(network: TrainedNetwork, folder: Path, example: torch.Tensor) -> tuple[Path, float | None]:
    """Write the network for any number of images.

    Returns:
        The file, and the largest difference of outputs relative to the largest one; None if onnxruntime is
        not installed, so that nothing was compared.

    Raises:
        InputError: a package is missing, or torch cannot export the network.
        RunFailure: onnxruntime gives other outputs.
    """
    check_packages()
    file = folder / NAME
    batch = torch.export.Dim("images", min=1, max=2**20)
    logger, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.body, (example,), str(file), dynamo=True, external_data=False,
                input_names=["images"], output_names=["logits"], dynamic_shapes=({0: batch},),
            )  # fmt: skip
    except Exception as error:  # the exporter may raise anything
        raise InputError(f"torch cannot export this network as ONNX: {reason(error)}") from None
    finally:
        logger.setLevel(level)
    if importlib.util.find_spec("onnxruntime") is None:
        return file, None
    return file, _difference(network, file, example)


@torch.no_grad()
def _difference(network: TrainedNetwork, file: Path, example: torch.Tensor) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    off = 0.0
    for images in (example, example[:1]):
        (found,) = session.run(None, {"images": images.numpy()})
        expected = network(images)
        size = float(expected.abs().max().clamp(min=1e-30))
        off = max(off, float((torch.from_numpy(found) - expected).abs().max()) / size)
    if not off <= TOLERANCE:
        raise RunFailure(
            f"{file} must give equal outputs; onnxruntime differs by {off:.1e} of the largest one"
        )
    return off
