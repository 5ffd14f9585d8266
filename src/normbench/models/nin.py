"""Network in Network (lin2014, §3) for 32×32 images: 1×1 convolutions after each convolution."""

from __future__ import annotations

from torch import nn

from normbench.models.builder import Builder
from normbench.models.layers import GlobalAveragePool

#: Channels of the layers of each block at width 192, the kernel of its first layer, and the pooling after it.
BLOCKS = (((192, 160, 96), 5, nn.MaxPool2d), ((192, 192, 192), 5, nn.AvgPool2d), ((192, 192), 3, None))
WIDTH = 192


def nin(b: Builder) -> nn.Module:
    """Sites conv1_1 … conv3_2. `model.width` is the number of channels of conv1_1: 192 as in the authors'
    model for CIFAR-10. The other layers keep their ratio to it. Dropout stands after the first two blocks.

    The last 1×1 convolution of the authors' model gives one map per class, and a global average pools it.
    Here the average comes first and the classifier is linear. That is the same function but for the ReLU
    between the two. 966,986 parameters on colour images without norms, as in the authors' model.
    """
    width = b.spec.model.width or WIDTH
    net = nn.Sequential()
    channels = b.image.channels
    for block, (layers, first, pool) in enumerate(BLOCKS, 1):
        for i, share in enumerate(layers, 1):
            site, outputs = f"conv{block}_{i}", max(1, round(share * width / WIDTH))
            kernel = first if i == 1 else 1
            conv = b.conv(site, channels, outputs, kernel, padding=kernel // 2, read_by=b.reader(site))
            if pool is not None and i == len(layers):
                net.extend(b.pooled_unit(site, conv, outputs, pool(3, 2, padding=1)))
                net.append(b.dropout(site))
            else:
                net.append(b.unit(site, conv, outputs))
            channels = outputs
    return net.extend([GlobalAveragePool(), b.head(channels)])
