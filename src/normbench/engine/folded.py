"""A network for evaluation, with norms folded into the layers next to them if that is exact.

Folding changes results by rounding only. It is done for splits of at least FROM images: for smaller ones it
takes longer than it saves. The rule does not depend on the number of lanes, so a stack and a lone run are
computed in the same way. Half precisions are never folded: they round the output of every layer, so a norm
inside a layer would round at another place.
"""

from __future__ import annotations

from normbench import norms
from normbench.engine.device import HALVES
from normbench.engine.lane_assignment import running_norms
from normbench.errors import InputError
from normbench.models import Network
from normbench.spec import RunSpec

#: Least number of images. PERF: folding four norms takes 30 ms of a CPU, as long as the norms of LeNet-5 take
#: for about 5,000 images of one lane (docs/LOG.md).
FROM = 5_000


def folded(network: Network, spec: RunSpec, images: int) -> Network:
    """A copy without the norms that are a fixed scale and shift per channel now, and with plain weights in
    place of weight maps; the network itself if nothing is gained.

    Args:
        network: of K lanes, in evaluation mode.
        spec:    what the lanes have in common.
        images:  number of images that will be classified.
    """
    anything = running_norms(network) or spec.weight.name != "none"
    if images < FROM or spec.engine.precision in HALVES or not anything:
        return network
    try:
        copy = norms.fold(network)
    except InputError:  # torch.fx cannot trace the network
        return network
    assert isinstance(copy, Network)
    return copy.eval()  # finds the layers of `begin_step` again
