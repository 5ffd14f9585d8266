"""Error of running statistics against those of the population (name: running_error)."""

from __future__ import annotations

from torch import Tensor

from normbench.engine.probes.moments import Moments
from normbench.engine.probes.protocol import ActivationProbe, Point, Reading, mean_and_max, split_lanes
from normbench.norms.running import RunningNorm


class RunningError(ActivationProbe):
    """How far running mean and variance are from those of the training images with the present weights.

        mean[l] = ‖μ_run − μ_pop‖ / ‖μ_pop‖,  var[l] = ‖σ²_run − σ²_pop‖ / ‖σ²_pop‖      norms over channels

    μ_pop and σ²_pop are the moments of all values that the norm of site l is given in one pass over the
    training images (see `images`). Scalars: mean and maximum over sites. Sites without running mean and
    variance are left out.

    Source:     wu2021, §3 (running statistics against population statistics).
    Deviations: the paper compares accuracies; the relative error of the statistics is ours.
    Cost:       one forward pass over up to 10,000 training images, shared with the other activation probes.
    """

    at = "input"
    per_bank = True

    def collector(self, lanes: int) -> Moments:
        return Moments(lanes)

    def read(self, point: Point, bank: int) -> Reading:
        mean: dict[str, Tensor] = {}
        var: dict[str, Tensor] = {}
        for site, layer in point.network.norms().items():
            if not isinstance(layer, RunningNorm):
                continue
            with layer.using_bank(bank):
                running = dict(layer.named_buffers(recurse=False))
                if not {"running_mean", "running_var"} <= running.keys():
                    continue
                moments: Moments = point.activity[site]
                mean[site] = relative(running["running_mean"], moments.mean())
                var[site] = relative(running["running_var"], moments.var())
        (mean_mean, mean_max), (var_mean, var_max) = (mean_and_max(v, point.lanes) for v in (mean, var))
        return Reading(
            {"mean_mean": mean_mean, "mean_max": mean_max, "var_mean": var_mean, "var_max": var_max},
            {"mean": split_lanes(mean, point.lanes), "var": split_lanes(var, point.lanes)},
        )


def relative(running: Tensor, population: Tensor) -> Tensor:
    """‖a − b‖ / ‖b‖ per lane, (K,): a (K·C,), b (K, C) in fp64."""
    distance = running.double().view_as(population) - population
    error: Tensor = distance.norm(dim=1) / population.norm(dim=1)
    return error
