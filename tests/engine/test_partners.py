"""Two processes that train a stack together: they end where one process with simulated workers ends."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
import torch

from engine.rank_process import train
from normbench import data, norms, rng
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.engine import partners
from normbench.engine.stack import training_batches
from normbench.errors import InputError, NormError
from normbench.models.layers import Dropout
from normbench.ranks import ALONE, Ranks, held, holding, launched
from normbench.spec import RunSpec

PROCESS = Path(__file__).with_name("rank_process.py")
BASE = ["data=synthetic", "data.train_size=120", "data.test_size=16", "data.valid=0.2", "data.channels=1",
        "data.size=8", "engine.precision=fp64", "steps=6", "workers=4", "batch=4"]  # fmt: skip
MLP = [*BASE, "model=mlp", "model.hidden=[6]"]
CONV = [*BASE, "model=lenet5", "steps=3", "placement.sites=[conv1,conv2]"]
#: Words of a run, and the fields in which further runs of its stack differ.
CASES = {
    "bn, a bank and two seeds": (["norm=bn", "optim.ema=0.9"], {"norm.momentum": "0.5"}, {"seed": 1}),
    "bn, one worker each": (["norm=bn", "workers=2"],),
    "sync": (["norm=sync", "eval.statistics=[running,precise:mean_var,batch]"], {"seed": 1}),
    "gn": (["norm=gn", "norm.args.num_groups=2", "optim=adam", "optim.clip=0.5"],),
    "brn": (["norm=brn", "eval.statistics=[running]"], {"seed": 1}),
    "noisy_bn with dropout": (["norm=noisy_bn", "model.dropout=0.3"], {"seed": 1}),
    "gradient statistics": (["norm=power", "norm.args.warmup=0.5", "weight=spectral"],),
    "plateau": (["norm=bn", "schedule=plateau", "schedule.every=2", "schedule.patience=0", "optim.lr=0.5",
                 "diagnostics=[gradient_norm,covariate_shift]"],),
    "one lane diverges": (["norm=none", "optim.lr=1e37"], {"optim.lr": 0.1}),
}  # fmt: skip
AUGMENTED = ["norm=bn", "data.crop=2", "data.flip=true", "model.dropout=0.2"]


def ask(folder: Path, cases: dict) -> dict:
    """Case → the specifications, and states and curves of both ranks."""
    plain = [[spec.model_dump(mode="json") for spec in specs] for specs in cases.values()]
    (folder / "cases.json").write_text(json.dumps(plain))
    running = [
        subprocess.Popen([sys.executable, PROCESS, str(rank), folder], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert not any(process.returncode for process in running), errors
    states = [torch.load(folder / f"states{rank}.pt") for rank in range(2)]
    curves = [json.loads((folder / f"curves{rank}.json").read_text()) for rank in range(2)]
    return {
        name: (specs, [by_rank[at] for by_rank in states], [by_rank[at] for by_rank in curves])
        for at, (name, specs) in enumerate(cases.items())
    }


@pytest.fixture(scope="module")
def make():
    """As `make_spec`, for fixtures of the module."""

    def make(*words):
        (config,) = compose(words)
        return resolve(config).spec

    return make


def runs(first: RunSpec, *others: dict) -> list[RunSpec]:
    """A run, and runs that differ from it in some fields. PERF: composing each takes a fifth of a second."""
    specs = [first]
    for fields in others:
        tree = first.model_dump(mode="json")
        for path, value in fields.items():
            *above, last = path.split(".")
            reduce(getitem, above, tree)[last] = value
        specs.append(RunSpec.model_validate(tree))
    return specs


@pytest.fixture(scope="module")
def answers(tmp_path_factory, make):
    cases = {name: runs(make(*MLP, *words), *others) for name, (words, *others) in CASES.items()}
    cases["augmented"] = runs(make(*CONV, *AUGMENTED), {"seed": 1})
    return ask(tmp_path_factory.mktemp("ranks"), cases)


def distance(states, results) -> float:
    """The largest difference between the final states of ranks and of one process, over weights and
    statistics.
    """
    assert [state.keys() for state in states] == [result.final_state.keys() for result in results]
    far = [0.0]
    for state, result in zip(states, results, strict=True):
        for name, tensor in result.final_state.items():
            if tensor.numel() and tensor.isfinite().all():
                far.append(float((state[name].double() - tensor.double()).abs().max()))
            else:
                torch.testing.assert_close(state[name], tensor, equal_nan=True)
    return max(far)


def plain(metrics: dict) -> dict:
    """Metrics with NaN in place of None."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


@pytest.mark.parametrize("case", [*CASES, "augmented"])
def test_two_ranks_end_where_simulated_workers_end(answers, case):
    specs, (states, others), (curves, _) = answers[case]
    results = train(specs)
    assert distance(states, results) < 1e-10
    for mine, other in zip(states, others, strict=True):
        for name, tensor in mine.items():
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=0, equal_nan=True)
    for (history, metrics, diverged_at), result in zip(curves, results, strict=True):
        assert diverged_at == result.diverged_at
        for numbers, wanted in zip([metrics, *history], [result.metrics, *result.history], strict=True):
            assert plain(numbers) == pytest.approx(plain(wanted), rel=1e-8, abs=1e-10, nan_ok=True)


def test_a_lane_that_diverges_leaves_the_other_alone(answers):
    _, _, (curves, _) = answers["one lane diverges"]
    assert [at is None for _, _, at in curves] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("words", [MLP, CONV], ids=["mlp", "lenet5"])
def test_exactly_the_norms_that_say_so_need_all_workers_at_once(make, tmp_path, words):
    own = {"ghost": ["norm.args.ghost_size=2"], "dbn": ["norm.args.group_size=2"]}
    cases, alone = {}, {}
    for key in norms.catalogue():
        specs = [make(*words, f"norm={key}", *own.get(key, ()))]
        try:
            alone[key] = train(specs)
        except NormError:  # the model's maps have one position
            continue
        cases[key] = specs
    assert len(cases) > 25
    answers = ask(tmp_path, cases)
    far = {key for key in cases if distance(answers[key][1][0], alone[key]) > 1e-10}
    assert far == {key for key in cases if norms.entry(key).layer.joins_workers}


def test_the_parts_of_a_step_are_its_images(make):
    spec = make(*CONV, *AUGMENTED)
    batches = training_batches([spec], data.load(spec.data, size=32), channels_last=False)
    for step in (0, 7):
        whole, labels = batches.at(step)
        parts = []
        for number in range(4):
            batches.seek(step, Ranks(number, 4).part(spec.total))
            parts.append(batches.read())
        assert torch.equal(torch.cat([x for x, _ in parts]), whole)
        assert torch.equal(torch.cat([y for _, y in parts]), labels)


def test_a_part_has_its_own_numbers_of_a_longer_call():
    keys = rng.lane_keys([0, 1], "mask")
    whole = rng.uniform(keys, 3, count=12)
    assert torch.equal(rng.uniform(keys, 3, count=4, first=4), whole[:, 4:8])


def test_dropout_of_the_parts_is_that_of_the_step():
    layer, x = Dropout(0.5, (0, 1), "drop"), torch.ones(6, 2 * 5)
    whole = layer(x)
    parts = []
    for number in range(3):
        with holding(Ranks(number, 3)):
            parts.append(layer(x[:2]))
    assert torch.equal(torch.cat(parts), whole)
    assert held() is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["norm=bn", "workers=3"], "multiple of 2; got workers=3"),
        (["norm=bn", "workers=1"], "multiple of 2; got workers=1"),
        (["norm=mode"], "norm=mode cannot train on 2 ranks: its running variance"),
        (["norm=cbn"], "window of statistics"),
        (["norm=bn", "engine.graphs=true"], "use engine.graphs=auto"),
    ],
)
def test_what_ranks_cannot_share_is_refused_in_one_line(make, words, says):
    spec = make(*MLP, *words)
    partners.check(spec, ALONE)
    with pytest.raises(InputError) as error:
        partners.check(spec, Ranks(0, 2))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_only_torchrun_makes_ranks():
    of_others = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launched(of_others) == ALONE
    assert launched({**of_others, "TORCHELASTIC_RUN_ID": "none"}) == Ranks(1, 4, 1, 2)
