"""VGG (simonyan2014, Table 1) for 32×32 images: the convolutions of A, B, D and E, one linear layer."""

from __future__ import annotations

from torch import nn

from normbench.models.builder import Builder

#: Convolutions in each of the five stages; a stage ends with max-pooling.
STAGES = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def vgg(b: Builder) -> nn.Module:
    """Sites conv1_1, conv1_2, …; the stages are 1, 2, 4, 8, 8 times `model.width` channels wide. Dropout
    stands before the classifier.
    """
    width = b.spec.model.width or 64
    net = nn.Sequential()
    channels = b.image.channels
    for stage, convs in enumerate(STAGES[b.spec.model.name], 1):
        outputs = width * min(2 ** (stage - 1), 8)
        for i in range(1, convs + 1):
            site = f"conv{stage}_{i}"
            conv = b.conv(site, channels, outputs, 3, padding=1, read_by=b.reader(site))
            if i < convs:
                net.append(b.unit(site, conv, outputs))
            else:
                net.extend(b.pooled_unit(site, conv, outputs, nn.MaxPool2d(2)))
            channels = outputs
    return net.extend([nn.Flatten(), b.dropout("head"), b.head(channels)])
