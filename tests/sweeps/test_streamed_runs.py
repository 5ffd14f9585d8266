"""Runs on streamed images have the numbers of runs on loaded ones, and their signatures."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from event_log import Log
from normbench import events
from normbench.data import streaming
from normbench.errors import Interrupted
from normbench.store import Store
from normbench.sweeps import sweep_data
from normbench.sweeps.get_or_train import Sweep
from normbench.sweeps.stopping import STOP

QUICK = [
    "model=mlp", "model.hidden=[8]", "steps=7", "batch=4", "tracking=none", "engine.processes=1",
    "engine.device=cpu", "data=folder", "data.size=8", "data.crop=2", "norm=bn",
]  # fmt: skip
CASES = {
    "every source, quality and corruption": [
        "eval.statistics=[running,batch,batch:class_pure,precise,precise:8,adapt,adapt:4:8,blend:0.2]",
        "eval.metrics=[ece,confusion]", "eval.corruptions=[contrast:2,gaussian_noise:5]", "eval.every=3",
    ],
    "validation and diagnostics": [
        "data.valid=0.25", "schedule=plateau", "schedule.every=3",
        "diagnostics=[running_error,smoothness:2,layer_jacobian,batch_noise,dead_channels]",
    ],
    "half precision, channels last, convolutions": [
        "model=lenet5", "model.hidden=null", "engine.precision=bf16", "engine.layout=channels_last",
        "steps=3",
    ],
    "lsuv and classes in turn": ["model.init=lsuv", "data.sampling=class_pure", "data.standardize=pixel"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh():
    """Nothing is remembered of other tests, and requests to stop do not reach them."""
    for cached in (streaming.why_streamed, sweep_data._load):
        cached.cache_clear()
    yield
    STOP.signal, STOP.training, STOP.pulse.wanted = None, False, False


@pytest.fixture
def folder(tmp_path):
    """36 training and 16 test images of 3 classes, PNG and JPEG, 10×12."""
    draws = np.random.default_rng(0)
    for split, count in {"train": 36, "test": 16}.items():
        for number in range(count):
            pixels = draws.integers(0, 120, (12, 10, 3)) + 60 * (number % 3)
            file = tmp_path / "folder" / split / "abc"[number % 3] / f"{number}.{('png', 'jpg')[number % 2]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return tmp_path / "folder"


@pytest.fixture
def ask(make_sweep, folder, tmp_path):
    """A function from a name and words to a sweep on the folder, in a store of that name."""
    return lambda store, *words: Sweep(
        make_sweep(*QUICK, f"data.path={folder}", *words), Store(tmp_path / store)
    )


def told(records):
    return [(r.signature, r.status, r.metrics, r.tables, r.provenance["data"]) for r in records]


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_streamed_and_loaded_runs_have_the_same_records(ask, words):
    """In stacks of four lanes, two of each seed."""
    words = [*words, "seed=0,1", "optim.lr=0.05,0.1"]
    loaded = ask("loaded", *words, "data.stream=false")
    streamed = ask("streamed", *words, "data.stream=true", "data.readers=0")
    assert told(loaded.train()) == told(streamed.train())
    for spec in loaded.asked:
        assert loaded.store.history(spec.signature) == streamed.store.history(spec.signature)
    assert any("are streamed: data.stream=true" in note for note in streamed.plan.notes)
    assert not any("are streamed" in note for note in loaded.plan.notes)


def test_a_finished_run_is_found_however_its_images_are_read(ask):
    ask("one", "data.stream=false").train()
    again = ask("one", "data.stream=true", "data.readers=2")
    assert again.plan.headline() == "1 run: 1 finished before, 0 to train"
    other = ask("one", "data.stream=true", "data.crop=0", "data.resized_crop=0.5")
    assert other.plan.headline() == "1 run: 1 to train in 1 stack"


def test_what_is_asked_for_later_is_evaluated_on_streamed_images(ask):
    more = "eval.statistics=[running,batch,precise,adapt]"
    words = ["data.stream=true", "data.readers=0", "data.crop=0", "data.resized_crop=0.3"]
    ask("later", *words).train()
    later = ask("later", *words, more)
    assert later.plan.headline() == "1 run: 1 to evaluate without training"
    assert told(later.train()) == told(ask("at once", *words, more).train())


@pytest.mark.parametrize("kind", [[], ["data.crop=0", "data.resized_crop=0.3", "data.center_crop=0.9"]])
def test_a_run_that_is_stopped_and_resumed_ends_as_an_unbroken_one(ask, kind):
    """A process reads ahead. The signal comes in the second epoch."""
    words = [*kind, "data.stream=true", "data.readers=1", "steps=14", "eval.every=5"]
    [whole] = ask("whole", *words).train()

    def press(event):
        if isinstance(event, events.StackLogged) and event.step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="1 run goes on from step 10"):
        ask("broken", *words).train([Log(press)])
    STOP.signal = None
    [resumed] = ask("broken", *words).train()
    assert resumed.provenance["resumed_from"] == 10
    assert resumed.metrics == whole.metrics


@pytest.mark.slow
def test_worker_processes_read_their_images_themselves(ask):
    words = ["seed=range(2)", "engine.lanes=1"]
    alone = ask("alone", *words, "data.stream=false")
    several = ask("several", *words, "data.stream=true", "data.readers=2", "engine.processes=2")
    assert several.at_once == 2
    assert told(several.train()) == told(alone.train())


def test_the_commands_of_the_documentation_are_understood(make_sweep, folder):
    page = Path(__file__).parents[2] / "docs" / "howto" / "image-folders.md"
    blocks = re.findall(r"^```text\nnormbench train (.*?)^```$", page.read_text(), re.S | re.M)
    assert len(blocks) == 2
    for block in blocks:
        words = re.sub(r"data\.path=\w+", f"data.path={folder}", block.replace("\\\n", " ")).split()
        assert {each.spec.data.name for each in make_sweep(*words)} == {"folder"}


MEASURE = """
import sys
from pathlib import Path
import torch
from normbench import data
from normbench.data.batches import Batches, test_batches
from normbench.spec import DataSpec

def peak():  # not ru_maxrss: it starts at the memory of the parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

spec = DataSpec.model_validate_json(sys.argv[1])
before = peak()
found = data.load(spec, cache=Path(sys.argv[2]))
batches = Batches(found, [0], 8)
for step in range(batches.steps_per_epoch):
    batches.seek(step)
    batches.read()
batches.close()
for x, y in test_batches(found, 16):
    pass
print(peak() - before)
"""
#: Of 2000 images of 3×256×256 as pixels.
WHOLE = 2000 * 3 * 256 * 256


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/self/status")
@pytest.mark.parametrize(
    ("words", "least", "most"),
    [
        (["data.stream=false"], 0.9, 4),
        (["data.stream=true"], 0, 0.5),
        (["data.stream=true", "data.crop=0", "data.resized_crop=0.3"], 0, 0.5),
    ],
)
def test_memory_stays_below_half_of_the_size_of_the_images(make_spec, tmp_path, words, least, most):
    """The pixels would take 393 MB. Their files are small, and each is one of two."""
    folder = tmp_path / "large"
    for number, name in enumerate("ab"):
        for split, count in {"train": 900, "test": 100}.items():
            (folder / split / name).mkdir(parents=True)
            first = folder / split / name / "0.png"
            Image.fromarray(np.full((256, 256, 3), 90 * number + 40, np.uint8)).save(first)
            for copy in range(1, count):
                os.link(first, first.with_name(f"{copy}.png"))
    spec = make_spec("data=folder", f"data.path={folder}", *words)
    command = [sys.executable, "-c", MEASURE, spec.data.model_dump_json(), str(tmp_path / "cache")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    print(f"{' '.join(words)}: peak above the start {int(found.stdout) / 1e6:.0f} MB")
    assert least * WHOLE <= int(found.stdout) < most * WHOLE
