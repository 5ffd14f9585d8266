"""AlexNet (krizhevsky2012, §3) for 32×32 images: its five convolutions and two hidden layers, scaled down."""

from __future__ import annotations

from torch import nn

from normbench.models.builder import Builder

#: Channels over `model.width` of the five convolutions, as in the paper (96, 256, 384, 384, 256 at width 96),
#: their kernels, and whether overlapping max-pooling follows.
CONVOLUTIONS = ((1, 5, True), (8 / 3, 5, True), (4, 3, False), (4, 3, False), (8 / 3, 3, True))
#: Width of the two hidden layers over `model.width`.
HIDDEN = 16


def alexnet(b: Builder) -> nn.Module:
    """Sites conv1 … conv5, fc1, fc2. `model.width` is the number of channels of conv1: 96 in the paper.

    For images of 32×32 the first kernel is 5×5 with stride 1 instead of 11×11 with stride 4. The pooling
    stays 3×3 with stride 2. The hidden layers have 16 times the width: 1536, and 4096 in the paper.
    Convolutions are not split over two devices. The paper's local response normalization is norm=lrn.
    Dropout stands before the hidden layers. 9,636,234 parameters on colour images without norms.
    """
    width = b.spec.model.width or 96
    net = nn.Sequential()
    channels, side = b.image.channels, b.image.size
    for number, (factor, kernel, pooled) in enumerate(CONVOLUTIONS, 1):
        site, outputs = f"conv{number}", round(width * factor)
        conv = b.conv(site, channels, outputs, kernel, padding=kernel // 2, read_by=b.reader(site))
        if pooled:
            net.extend(b.pooled_unit(site, conv, outputs, nn.MaxPool2d(3, 2)))
            side = (side - 3) // 2 + 1
        else:
            net.append(b.unit(site, conv, outputs))
        channels = outputs
    net.append(nn.Flatten())
    inputs, hidden = channels * side**2, width * HIDDEN
    for site in ("fc1", "fc2"):
        net.append(b.dropout(site))
        net.append(b.unit(site, b.linear(site, inputs, hidden, read_by=b.reader(site)), hidden))
        inputs = hidden
    net.append(b.head(inputs))
    return net
