"""The plain loop that stacks are compared with: what a careful user of PyTorch writes for one run.

The data are in the device's memory and standardized once. An index, a crop and a flip make a batch. Images
and filters have the memory format that is fastest on the device. torch.optim.SGD is fused. Nothing waits for
the device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.bench.plain_network import NORMS, plain_network
from normbench.data.dataset import Dataset
from normbench.data.streamed import pixels
from normbench.engine.device import STORAGE, casting, default_memory_format
from normbench.engine.schedule import multiplier
from normbench.errors import InputError
from normbench.spec import RunSpec


class PlainLoop:
    """Trains one run, one step per call.

    Args:
        spec:    the run.
        dataset: on the device, its images fitted to the model.
        device:  that the loop runs on.
        tuned:   use what makes PyTorch fast on a GPU: bf16 autocast, channels_last, and torch.compile with
                 CUDA graphs.

    Attributes:
        net:    the network, from torch's own layers.
        losses: sum of the losses of all steps so far.

    Raises:
        InputError: the run asks for something that this loop cannot do, see `refusal`.
    """

    def __init__(self, spec: RunSpec, dataset: Dataset, device: torch.device, *, tuned: bool = False) -> None:
        if lacks := refusal(spec):
            raise InputError(f"the plain loop cannot do {lacks}")
        optim, width = spec.optim, STORAGE[spec.engine.precision]
        torch.manual_seed(spec.seed)
        self.spec, self.tuned = spec, tuned
        self.format = torch.channels_last if tuned else default_memory_format(device)
        self.net = plain_network(spec, dataset.shape).to(device, width)
        self.net.to(memory_format=self.format)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=spec.lr, momentum=optim.momentum or 0.0,
            weight_decay=optim.weight_decay, nesterov=bool(optim.nesterov), fused=True,
        )  # fmt: skip
        self.forward = torch.compile(self.net, mode="reduce-overhead") if tuned else self.net
        self.images, self.labels = _standardized(dataset, spec.data.crop, width), dataset.train_labels
        self.order = torch.randperm(len(self.labels), device=device)
        self.losses = torch.zeros((), device=device)

    def __call__(self, number: int) -> None:
        """Take step `number`, counted from 0."""
        spec, device = self.spec, self.labels.device
        place = number % (len(self.labels) // spec.total) * spec.total
        if place == 0:
            self.order = torch.randperm(len(self.labels), device=device)
        index = self.order[place : place + spec.total]
        x, y = self._images(index), self.labels[index]
        with torch.autocast(device.type, torch.bfloat16) if self.tuned else casting(spec.engine, device):
            loss = F.cross_entropy(self.forward(x), y, label_smoothing=spec.optim.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = spec.lr * multiplier(spec.schedule, number, spec.steps or 1)
        self.optimizer.step()
        self.losses += loss.detach()

    def _images(self, index: Tensor) -> Tensor:
        """Images (N, C, H, W) by number (N,), with the random crop and flip that the run asks for."""
        x, crop, device = self.images, self.spec.data.crop, index.device
        if crop:
            channels = torch.arange(x.shape[1], device=device)
            reach = torch.arange(x.shape[2] - 2 * crop, device=device)
            rows, columns = torch.randint(2 * crop + 1, (2, len(index), 1), device=device) + reach  # (N, H)
            x = x[
                index[:, None, None, None],
                channels[:, None, None],
                rows[:, None, :, None],
                columns[:, None, None],
            ]
        else:
            x = x[index]
        if self.spec.data.flip:
            x = torch.where(torch.rand(len(x), 1, 1, 1, device=device) < 0.5, x.flip(3), x)
        return x.contiguous(memory_format=self.format)


def _standardized(dataset: Dataset, crop: int, width: torch.dtype) -> Tensor:
    """All training images with a black border of `crop` pixels, (pixel − shift) / scale per channel."""
    images = F.pad(pixels(dataset.train_images), (crop,) * 4)
    mean, std = (torch.tensor(m, device=images.device).view(-1, 1, 1) for m in (dataset.mean, dataset.std))
    return images.float().div_(255).sub_(mean).div_(std).to(width)


def refusal(spec: RunSpec) -> str:
    """What a run asks for and the plain loop or torch's own layers lack; "" if they lack nothing."""
    norm, optim = spec.norm, spec.optim
    lacking = {
        f"norm={norm.name}": norm.name not in NORMS,
        f"norm.affine={norm.affine}": isinstance(norm.affine, str),
        f"norm.momentum={norm.momentum}": norm.momentum is not None and norm.momentum.kind != "ema",
        f"weight={spec.weight.name}": spec.weight.name != "none",
        f"model.branch={spec.model.branch}": spec.model.branch != "plain",
        f"workers={spec.workers}": spec.workers > 1,
        f"optim={optim.name}": optim.name != "sgd",
        f"optim.clip={optim.clip}": optim.clip != "none",
        f"optim.decay={optim.decay}": optim.decay != "all",
        f"data.standardize={spec.data.standardize}": spec.data.standardize in ("pixel", "image"),
        f"schedule={spec.schedule.name}": spec.schedule.name == "plateau",
        f"data.sampling={spec.data.sampling}": spec.data.sampling != "iid",
        f"engine.precision={spec.engine.precision}": spec.engine.precision == "fp16",
    }
    return ", ".join(word for word, lacks in lacking.items() if lacks)
