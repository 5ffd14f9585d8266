"""Of two words about one value the later one counts, as everywhere in Hydra; choices come before values."""

from __future__ import annotations

import pytest

from normbench.config.compose import compose


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (["batch=4", "batch=8"], "batch", 8),
        (["batch=8", "batch=4"], "batch", 4),
        (["optim.lr=1.0", "batch=2", "optim.lr=0.5"], "optim.lr", 0.5),
        (["norm.eps=0.1", "norm.momentum=0.2", "norm.eps=0.3"], "norm.eps", 0.3),
        (["optim.weight_decay=0.7", "optim=adamw"], "optim.weight_decay", 0.7),
        (["schedule.warmup=0.3", "schedule=constant"], "schedule.warmup", 0.3),
        (["norm.affine=false", "norm=gn", "norm.affine=true"], "norm.affine", True),
        (["norm=gn", "norm.args.group_size=4", "norm.args={group_size: 8}"], "norm.args.group_size", 8),
        (["norm=gn", "norm.args={group_size: 8}", "norm.args.group_size=4"], "norm.args.group_size", 4),
    ],
)
def test_the_later_word_counts_and_a_value_holds_whatever_is_chosen(words, path, value):
    (config,) = compose(words)
    for key in path.split("."):
        config = config[key]
    assert config == value


def test_the_later_word_counts_in_every_run_of_a_sweep():
    configs = compose(["batch=4", "norm=bn,gn", "seed=1,2", "batch=16"])
    assert [(c["batch"], c["norm"]["name"], c["seed"]) for c in configs] == [
        (16, "bn", 1), (16, "bn", 2), (16, "gn", 1), (16, "gn", 2),
    ]  # fmt: skip
