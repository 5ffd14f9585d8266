"""LeNet-5 (lecun1998, Fig. 2), with full connections between its two convolutions."""

from __future__ import annotations

from torch import nn

from normbench.models.builder import Builder


def lenet5(b: Builder) -> nn.Module:
    """Two 5×5 convolutions with pooling, two hidden layers: 61,706 parameters on grey images without norms.

    Sites: conv1, conv2, fc1, fc2. Norms stand before the pooling, but for
    placement=conv_act_pool_norm; dropout stands after the hidden layers.
    """
    pool = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[b.spec.model.pool or "max"]
    net = nn.Sequential()
    channels = b.image.channels
    for site, outputs in (("conv1", 6), ("conv2", 16)):
        conv = b.conv(site, channels, outputs, 5, read_by=b.reader(site))
        net.extend(b.pooled_unit(site, conv, outputs, pool(2)))
        channels = outputs
    net.append(nn.Flatten())
    width = channels * 5 * 5
    for site, outputs in (("fc1", 120), ("fc2", 84)):
        net.append(b.unit(site, b.linear(site, width, outputs, read_by=b.reader(site)), outputs))
        net.append(b.dropout(site))
        width = outputs
    net.append(b.head(width))
    return net
