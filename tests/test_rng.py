"""Random numbers of (key, counters, index): uniform, independent, the same on every device."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from normbench import rng

MANY = 200_000


def draw(seeds=(0,), purpose="test", *counters, count=MANY, dtype=torch.float32):
    return rng.uniform(rng.lane_keys(seeds, purpose), *counters, count=count, dtype=dtype)


def splitmix64(state, count):
    """Vigna's splitmix64.c in Python integers: `count` outputs from a state."""
    mask = 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_the_numbers_of_a_key_are_the_splitmix64_stream_of_that_state(key):
    ours = rng.uniform(torch.tensor([key]), count=20, dtype=torch.float64)[0].tolist()
    assert ours == [(word >> 11) / 2**53 for word in splitmix64(key & (2**64 - 1), 20)]


def test_the_reference_stream_is_the_published_one():
    """First outputs of splitmix64 seeded with 1234567, as in Rosetta Code's test of the algorithm."""
    assert list(splitmix64(1234567, 2)) == [6457827717110365317, 3203168211198807973]


def test_the_numbers_do_not_change_between_versions():
    """Other numbers change every run. Change these values only on purpose."""
    assert draw((0, 1), "flip", 3, count=3, dtype=torch.float64).tolist() == [
        [0.41494562043700467, 0.46842356511879113, 0.1068245640658847],
        [0.2088945467245269, 0.5064329559030712, 0.5758948507662739],
    ]
    assert torch.randperm(5, generator=rng.generator(0, "order/0")).tolist() == [1, 4, 3, 2, 0]


def test_keys_are_the_same_in_another_process():
    program = "from normbench import rng; print(rng.lane_keys([7, 2**62], 'x').tolist())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(rng.lane_keys([7, 2**62], "x").tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_uniform_on_the_half_open_unit_interval(dtype):
    u = draw(dtype=dtype)[0].double().numpy()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / MANY)
    assert abs(u.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / MANY)
    assert stats.chisquare(np.histogram(u, 256, (0, 1))[0]).pvalue > 1e-3
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_low_bits_are_as_random_as_high_ones():
    words = (draw(dtype=torch.float64)[0] * 2**53).long()
    share = torch.stack([(words >> bit & 1).double().mean() for bit in range(53)])
    assert (share - 0.5).abs().max() < 5 * np.sqrt(1 / 4 / MANY)


def independent(a, b):
    return abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(a))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (draw((0,)), draw((1,))),
        (draw((0,), "flip"), draw((0,), "crop")),
        (draw((0,), "flip", 0), draw((0,), "flip", 1)),
        (draw((0,), "flip", 0, 1), draw((0,), "flip", 1, 0)),
        (draw((0,), "flip", 0), draw((0,), "flip", 0, 0)),
        (draw((0,))[:, 1:], draw((0,))[:, :-1]),
    ],
    ids=["lanes", "purposes", "steps", "order of counters", "number of counters", "neighbours"],
)
def test_streams_are_uncorrelated(one, other):
    a, b = one[0].numpy(), other[0].numpy()
    assert independent(a, b)
    joint = np.histogram2d(a, b, 16, ((0, 1), (0, 1)))[0]
    assert stats.chisquare(joint.ravel()).pvalue > 1e-3


def test_consecutive_steps_of_one_index_are_uncorrelated():
    """The numbers that dropout uses for one unit, step after step."""
    u = np.array([draw((0,), "dropout", step, count=1).item() for step in range(2000)])
    assert independent(u[1:], u[:-1])
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_a_lane_gets_the_same_bits_alone_and_at_any_position_of_a_stack():
    stack = draw((5, 3, 9, 3), "flip", 17, count=101)
    for k, seed in enumerate((5, 3, 9, 3)):
        assert torch.equal(stack[k], draw((seed,), "flip", 17, count=101)[0])


def test_a_longer_call_begins_with_the_numbers_of_a_shorter_one():
    assert torch.equal(draw(count=100)[:, :7], draw(count=7))


@pytest.mark.parametrize("step", [0, 1, 391, 2**31, 2**62])
def test_a_step_gives_the_same_numbers_as_an_int_and_as_a_tensor(step):
    assert torch.equal(draw((0, 1), "x", step, count=9), draw((0, 1), "x", torch.tensor(step), count=9))


def test_a_counter_may_differ_per_lane():
    keys = rng.lane_keys([4, 4, 8], "x")
    numbers = rng.uniform(keys, torch.tensor([0, 6, 2]), count=5)
    assert torch.equal(numbers[1], rng.uniform(keys[1:2], 6, count=5)[0])


def test_generators_of_different_seeds_and_purposes_differ():
    first = [torch.rand(4, generator=rng.generator(s, p)).tolist() for s in (0, 1) for p in ("init", "order")]
    assert len({tuple(f) for f in first}) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_draws_new_numbers_at_every_replay_and_the_same_as_the_cpu():
    keys, step = rng.lane_keys([0, 1], "x").cuda(), torch.zeros((), dtype=torch.int64, device="cuda")
    rng.uniform(keys, step, count=1000)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = rng.uniform(keys, step, count=1000)
        step += 1
    for now in range(3):
        graph.replay()
        assert torch.equal(drawn.cpu(), draw((0, 1), "x", now, count=1000))


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 24), (torch.float64, 53)])
def test_every_number_is_a_multiple_of_its_last_bit_so_that_none_rounds_to_1(dtype, bits):
    numbers = rng.uniform(rng.lane_keys(range(20), "multiples"), count=500, dtype=dtype).double()
    whole = numbers * 2.0**bits
    assert torch.equal(whole, whole.round())
    assert (whole % 2 == 1).any(), "the last bit is used"
