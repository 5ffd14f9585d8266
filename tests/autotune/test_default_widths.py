"""The width of a stack on this machine before anything was measured."""

from __future__ import annotations

import pytest

from normbench.autotune.default_widths import CPU_WIDTHS, SMALL_STEP, default_width


@pytest.mark.parametrize("model", ["mlp", "lenet5", "resnet20"])
@pytest.mark.parametrize(("batch", "workers"), [(SMALL_STEP, 1), (1, SMALL_STEP), (2, SMALL_STEP // 2)])
def test_a_small_step_counts_the_images_of_all_workers(make_spec, model, batch, workers):
    words = [f"model={model}", "engine.device=cpu", "norm=gn"]
    small, large = CPU_WIDTHS[model]
    assert default_width(make_spec(*words, f"batch={batch}", f"workers={workers}")) == small
    assert default_width(make_spec(*words, f"batch={batch}", f"workers={workers + 1}")) == large


def test_other_models_train_alone(make_spec):
    assert default_width(make_spec("model=vgg11", "batch=2", "engine.device=cpu")) == 1
