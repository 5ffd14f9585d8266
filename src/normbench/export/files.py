"""A trained network as files: weights, configuration, and a builder that needs torch and safetensors alone.

model.safetensors   the weights and running statistics
config.json         input, standardization, class names, metrics, where it comes from
load.py             `from load import load; network = load()`
"""

from __future__ import annotations

import ast
import inspect
import json
import runpy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from normbench.data import fit as fit_module
from normbench.errors import InputError
from normbench.export import parts
from normbench.export.ordinary import check_equal
from normbench.export.parts import TrainedNetwork
from normbench.export.restored import Restored
from normbench.export.source import source_of
from normbench.files import write_atomically
from normbench.norms import Norm

WEIGHTS, CONFIG, BUILDER = "model.safetensors", "config.json", "load.py"

_HEADER = '''\
"""Builds the trained network of run {run}: {model}, norm={norm}, on {data}.

    from load import load
    network = load()                                  # in evaluation mode
    logits = network(network.preprocess(images))      # images: (N, {channels}, {side}, {side}) uint8

Written by normbench {version}. Needs {needs}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
{imports}
HERE = Path(__file__).parent
'''
_FOOTER = '''


def build() -> nn.Module:
    """The layers with new weights."""
    return {source}


def load(folder: str | Path = HERE) -> TrainedNetwork:
    """The trained network in evaluation mode, from the files beside this one."""
    about = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    network = TrainedNetwork(build(), about).to(getattr(torch, about["dtype"]))
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
{at_the_end}    return network.eval()


if __name__ == "__main__":
    print(load())
'''
_AT_THE_END = """\
    for layer in network.modules():
        if isinstance(layer, norms.Norm):
            layer.begin_step({last}, {steps})
"""


def write_folder(restored: Restored, folder: Path) -> tuple[list[Path], float]:
    """Write the files, and read them back.

    Args:
        restored: the network, and what the files need.
        folder:   made if it does not exist. Its other files stay.

    Returns:
        The files, and the largest difference of outputs relative to the largest one.

    Raises:
        InputError: the folder cannot be written, has such files already, or the model has no text.
        RunFailure: the network that is read back gives other outputs.
    """
    places = [folder / name for name in (WEIGHTS, CONFIG, BUILDER)]
    if there := next((place for place in places if place.exists()), None):
        raise InputError(f"{there} exists already; give another folder with --out, or remove it")
    network = restored.network
    text = _builder(network, restored.norm_arguments, restored.steps)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    contents: tuple[bytes | str, ...] = (
        save(state),
        json.dumps(network.about, indent=2, ensure_ascii=False) + "\n",
        text,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place, content in zip(places, contents, strict=True):
            write_atomically(place, content)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}; give another --out"
        ) from None
    return places, _check(network, folder, restored.example)


@torch.no_grad()
def _check(network: TrainedNetwork, folder: Path, example: torch.Tensor) -> float:
    again = runpy.run_path(str(folder / BUILDER))["load"]()
    return check_equal(network(example), again(example), f"the network of {folder} and that of the run")


def _builder(network: TrainedNetwork, norm_arguments: dict[str, Any], steps: int) -> str:
    """The text of load.py."""
    about = network.about
    own = any(isinstance(layer, Norm) for layer in network.modules())
    header = _HEADER.format(
        run=about["run"], model=about["model"], norm=about["norm"], data=about["data"],
        channels=about["input"][0], side=about["input"][1], version=about["normbench"],
        needs="torch, safetensors and normbench, whose norm torch does not have" if own
        else "torch and safetensors, not normbench",
        imports="\nfrom normbench import norms\n" if own else "",
    )  # fmt: skip
    used = {type(layer).__name__ for layer in network.modules()}
    body = _definitions(fit_module, {"fit", "_pads"})
    body += _definitions(parts, {*used, "TrainedNetwork", "_of_images"})
    source = source_of(network.body, norm_arguments).replace("\n", "\n    ")
    at_the_end = _AT_THE_END.format(last=max(0, steps - 1), steps=steps) if own else ""
    return header + body + _FOOTER.format(source=source, at_the_end=at_the_end)


def _definitions(module: Any, used: set[str]) -> str:
    """The text of a module's constants and of the functions and classes that are used."""
    text = inspect.getsource(module)
    lines = text.splitlines()
    found = []
    for node in ast.parse(text).body:
        name = node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else None
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) or name not in {None, *used}:
            continue
        first = node.lineno - 1
        while first and lines[first - 1].startswith("#"):
            first -= 1
        gap = "\n\n\n" if name else "\n"
        found.append(gap + "\n".join(lines[first : node.end_lineno]))
    return "".join(found)
