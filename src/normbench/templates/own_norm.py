"""The start of a norm of one's own."""

from __future__ import annotations

TEXT = '''\
"""A norm of your own: norm={key}. It works as it is; change the equation, then:

    normbench check-norm {key}.py                                   # does it keep the contract of norms?
    normbench train --plugin {key}.py norm={key},bn 'seed=range(3)'    # train it beside batch norm
    normbench table --plugin {key}.py --rows norm

K runs train together as one network: x is (N, K·C, *spatial), with the C channels of every run side by side.
So statistics must never mix channels of different runs. Everything else is up to you.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from normbench import plugins
from normbench.norms import Norm, NormError


# What networks must know about the method; the defaults fit a norm that treats every image alone, in training
# as in evaluation. Others: batch_statistics=True if images of a batch see each other, eval_differs=True if
# evaluation computes something else, absorbs_bias=True if a bias just before the layer has no effect.
# neutral: an argument at this value leaves the signature of runs, so you can add arguments later.
@plugins.norm("{key}", family="sample", reduces="C, H, W", neutral={{"args.power": 2.0}})
class {name}(Norm):
    """Power normalization: every image is divided by the power mean of its values.

        y = γ x / (mean |x|^p + ε)^(1/p) + β
        mean over C, H, W of one image

    Args:
        channels: C, channels of one run.
        lanes:    K, runs side by side.
        eps:      ε > 0; one value or one per lane.
        affine:   True: γ and β; "weight": γ alone; "bias": β alone; False: neither.
        power:    p ≥ 1. On the command line: norm.args.power=1.5.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        eps: float | Sequence[float] = 1e-5,
        affine: bool | str = True,
        power: float = 2.0,
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)  # makes γ and β: self.weight, self.bias
        self.power = self.number("power", power, least=1)  # refuses other values with a message

    def normalize(self, x: Tensor) -> Tensor:
        """(N, K·C, *spatial) → the same shape, in fp32 or fp64."""
        runs = x.unflatten(1, (self.lanes, self.channels))  # (N, K, C, *spatial)
        axes = tuple(range(2, runs.dim()))  # C and space, never K
        mean = runs.abs().pow(self.power).mean(axes, keepdim=True)  # (N, K, 1, …)
        mean = mean.expand(-1, -1, self.channels, *mean.shape[3:]).flatten(1, 2)  # (N, K·C, 1, …)
        scaled = x / (mean + self.eps_along(x)).pow(1 / self.power)
        return self.scale_shift(scaled)  # γ y + β, if there are any

    def check(self, shape: Sequence[int]) -> None:
        """Refuse an input (N, K·C, *spatial) that cannot be normalized. The message becomes the user's."""
        values = self.channels
        for side in shape[2:]:
            values *= side
        if values < 2:
            raise NormError("{key}: an image of one value would become ±1; leave this layer out")
'''


def text(key: str) -> str:
    """The text of the file.

    Args:
        key: of the norm; the file is called <key>.py.
    """
    return TEXT.format(key=key, name="".join(part.capitalize() for part in key.split("_")) + "Norm")
