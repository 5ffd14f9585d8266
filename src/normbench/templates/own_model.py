"""The start of a model of one's own."""

from __future__ import annotations

TEXT = '''\
"""A model of your own: model={key}. It works as it is; change the layers, then:

    normbench plan --plugin {key}.py model={key} norm=bn,gn
    normbench train --plugin {key}.py model={key} norm=bn,gn 'seed=range(3)'
    normbench table --plugin {key}.py --rows norm --where model={key}

Write an ordinary PyTorch module. Its norm layers are replaced by the norm of the run, so any norm of torch
marks the places. The runs of such a model train one per stack.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from normbench import plugins


# size: side of the images in pixels that the model needs; None: any. Images are padded or resized to it.
@plugins.model("{key}", size=None)
def {key}(image: Any) -> nn.Module:
    """Three convolutions with norms, global pooling, and a classifier.

    Args:
        image: channels, size and classes of the data.

    Returns:
        A module that maps images (N, channels, size, size) to logits (N, classes).
    """
    return nn.Sequential(
        *unit(image.channels, 16),
        *unit(16, 32, stride=2),
        *unit(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, image.classes),
    )


def unit(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """A convolution without a bias, which the norm after it would remove; the norm; an activation."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
'''


def text(key: str) -> str:
    """The text of the file.

    Args:
        key: of the model; the file is called <key>.py.
    """
    return TEXT.format(key=key)
