"""Noise that batch statistics put on a prediction (name: batch_noise)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench import rng
from normbench.data.standardize import Standardize
from normbench.data.streamed import pixels
from normbench.engine.arrangement import shuffled
from normbench.engine.device import STORAGE, casting, default_memory_format
from normbench.engine.evaluate import batch_statistics
from normbench.engine.lane_assignment import running_norms
from normbench.engine.probes.protocol import Point, Probe, Reading, per_lane

#: Test images, and draws of companions for each.
IMAGES, DRAWS = 8, 8


class BatchNoise(Probe):
    """How much the logits of a test image depend on the images that share its batch.

        sd       = √( mean over images t and classes c of Var_d z_tc(d) )
        relative = sd / (standard deviation of mean_d z_tc over t and c)

    z_tc(d) is a logit of test image t among batch − 1 random training images, draw d, with the statistics of
    that batch; dropout and augmentation are off. Var is the sample variance over 8 draws. The 8 images and
    all draws are the same for all runs. 0 for norms without batch statistics and for batches of one image.

    Source:     teye2018, §3 (a prediction as a random variable of the mini-batch).
    Deviations: teye2018 draws the statistics from training batches without the test image.
    Cost:       forward passes of 64 batches at a reading.
    """

    cheap = False

    def read(self, point: Point, bank: int) -> Reading:
        network, data = point.network, point.dataset
        layers = running_norms(network)
        size = max([point.spec.batch, *(layer.batch or 1 for layer in layers)])
        device = data.test_images.device
        channels_last = default_memory_format(device) == torch.channels_last
        prepare = Standardize(data, point.lanes, channels_last, STORAGE[point.spec.engine.precision])
        tested = shuffled(len(data.test_labels))[:IMAGES].tolist()
        found = []
        network.eval()
        with torch.no_grad(), batch_statistics(layers), casting(point.spec.engine, device):
            for image in tested:
                for draw in range(DRAWS):
                    others = companions(image, draw, size - 1, len(data.train_labels)).to(device)
                    own = pixels(data.test_images[image : image + 1])
                    batch = torch.cat([own, pixels(data.train_images[others])])
                    found.append(network(prepare(batch.repeat(1, point.lanes, 1, 1)))[0].double())
        network.train()
        logits = torch.stack(found).unflatten(0, (len(tested), DRAWS))  # (images, draws, K, classes)
        sd = logits.var(1).mean((0, 2)).sqrt()
        between = logits.mean(1).transpose(0, 1).flatten(1).std(1)
        return Reading({"sd": per_lane(sd), "relative": per_lane(sd / between)})


def companions(image: int, draw: int, count: int, images: int) -> Tensor:
    """Indices of the training images beside a test image: (count,), each once if there are enough."""
    generator = rng.generator(0, f"companions/{image}/{draw}")
    if count <= images:
        return torch.randperm(images, generator=generator)[:count]
    return torch.randint(images, (count,), generator=generator)
