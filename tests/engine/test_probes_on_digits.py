"""What diagnostics must show on real digits, and what they cost there."""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from normbench import data
from normbench.diagnostics import CATALOGUE, Diagnostic
from normbench.engine.probes.registry import probe_of
from normbench.engine.train import train_stack

CPU = torch.device("cpu")
CHEAP = [name for name in CATALOGUE if probe_of(Diagnostic(name)).cheap]


def test_the_error_of_running_statistics_has_an_interior_minimum_over_momentum(make_sweep):
    """Stale below, noisy above: wu2021, and papers.md's pilot."""
    momenta = ("0.001", "0.01", "0.03", "0.1", "0.3", "1.0")
    words = ["model=mlp", "model.hidden=[64,64]", "steps=300", "batch=32", "optim.lr=0.1", "seed=1041,1042"]
    words += [f"norm.momentum={','.join(momenta)}", "diagnostics=[running_error]"]
    specs = [r.spec for r in make_sweep(*words)]
    errors = {m: [] for m in momenta}
    for spec, result in zip(specs, train_stack(specs, data.load(specs[0].data), CPU), strict=True):
        errors[f"{spec.norm.momentum.canonical:g}" if spec.norm.momentum.rate != 1 else "1.0"].append(
            result.metrics["running_error/mean_mean"]
        )
    by_momentum = [statistics.mean(errors[m]) for m in momenta]
    best = min(by_momentum)
    assert by_momentum.index(best) not in (0, len(momenta) - 1)
    assert by_momentum[0] > 3 * best and by_momentum[-1] > 1.5 * best


def test_batch_norm_is_at_least_three_times_smoother_than_no_norm(make_sweep):
    """santurkar2018, figure 4, in a net of six hidden layers that trains either way."""
    words = ["model=mlp", "model.hidden=[100,100,100,100,100,100]", "steps=200", "batch=64", "optim.lr=0.03"]
    words += ["optim.lr_scaling=none", "optim.momentum=0.0", "schedule=constant", "eval.statistics=[running]"]
    words += ["diagnostics=[smoothness:20]", "seed=1041,1042,1043"]
    found = {}
    for norm in ("none", "bn"):
        specs = [r.spec for r in make_sweep(*words, f"norm={norm}")]
        found[norm] = train_stack(specs, data.load(specs[0].data), CPU)
        assert max(result.metrics["test_error"] for result in found[norm]) < 0.25
    for quantity in CATALOGUE["smoothness"].quantities:
        none, bn = (
            statistics.mean(result.metrics[f"smoothness/{quantity}"] for result in found[norm])
            for norm in ("none", "bn")
        )
        print(quantity, none, bn, none / bn)
        assert none >= 3 * bn, quantity


@pytest.mark.slow
def test_cheap_diagnostics_together_cost_about_a_tenth_of_a_run(make_sweep):
    """A run of the default recipe on digits, the shortest there is: 10 epochs. Prints the measured share."""
    words = ["model=lenet5", "data=digits", "norm=bn", "seed=1,2,3,4"]

    def cpu_seconds(*more):
        from normbench import models

        specs = [r.spec for r in make_sweep(*words, *more)]
        dataset = data.load(specs[0].data, size=models.fitted_size(specs[0]))
        began = time.process_time()
        train_stack(specs, dataset, CPU)
        return time.process_time() - began

    cpu_seconds("steps=5")
    asked = f"diagnostics=[{','.join(CHEAP)}]"
    pairs = [(cpu_seconds(), cpu_seconds(asked)) for _ in range(3)]
    share = min(probed for _, probed in pairs) / min(plain for plain, _ in pairs) - 1
    print(f"{len(CHEAP)} cheap diagnostics at their default cadence: {share:.1%} of a run")
    assert share <= 0.15
