"""The house rules that a machine can check: who imports whom, how long a file may be, what is said where."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "normbench"
FILES = sorted(SOURCE.rglob("*.py"))
NO_TORCH = (
    "spec", "resolve", "plan", "store", "papers", "report", "events", "record", "compose", "explain",
    "momentum", "fingerprint", "errors", "environment", "tracking", "data.shapes", "cli",
)  # fmt: skip
#: package → what of ours it may import besides itself
ALLOWED = {
    "errors": (),
    "momentum": ("errors",),
    "fingerprint": ("errors",),
    "spec": ("errors",),
    "resolve": ("errors", "fingerprint", "momentum", "spec"),
    "record": (),
    "events": ("record",),
    "rng": (),
    "norms": ("errors", "momentum", "rng"),
    "weight_norms": ("errors",),
    "plan": ("resolve", "spec"),
    "store": ("errors", "record"),
    "data": ("errors", "spec", "rng"),
    "models": ("errors", "spec", "rng", "norms", "weight_norms", "data.shape"),
    "engine": ("errors", "momentum", "spec", "models", "data", "norms", "rng"),
    "bench": (
        "compose",
        "data",
        "engine",
        "errors",
        "models",
        "norms",
        "pool",
        "resolve",
        "spec",
        "weight_norms",
    ),
    "tracking": ("events", "record", "spec"),
    "report": ("errors", "record", "store", "spec"),
    "papers": ("errors", "record", "store", "spec", "report"),
    "work": (
        "errors",
        "data",
        "engine",
        "environment",
        "events",
        "models",
        "plan",
        "record",
        "spec",
        "store",
    ),
    "packings": ("data.shape", "data.shapes", "engine", "errors", "models", "plan", "spec", "store"),
    "pool": ("errors", "events", "plan", "store", "work"),
    "estimate": ("data.shape", "data.shapes", "models", "plan", "record", "spec", "store"),
    "run": (
        "data",
        "estimate",
        "resolve",
        "engine",
        "events",
        "models",
        "packings",
        "plan",
        "pool",
        "record",
        "spec",
        "store",
        "work",
    ),
}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, packages) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_modules_import_only_downwards(file):
    name = name_of(file)
    package = next((p for p in ALLOWED if within(name, [p])), None)
    if package is None:
        return
    ours = {i.removeprefix("normbench.") for i in imports(file) if i.startswith("normbench.")}
    modules = {
        i
        for i in ours
        if (SOURCE / Path(*i.split("."))).with_suffix(".py").exists()
        or (SOURCE / Path(*i.split("."))).is_dir()
    }
    strays = {i for i in modules if not within(i, (package, *ALLOWED[package]))}
    assert not strays, f"{name} must not import {sorted(strays)}"


@pytest.mark.parametrize("file", [f for f in FILES if within(name_of(f), NO_TORCH)], ids=name_of)
def test_what_plans_stores_and_renders_never_imports_torch(file):
    assert not {i for i in imports(file, top_level_only=True) if within(i, ["torch", "torchvision"])}


@pytest.mark.parametrize(
    "file", [f for f in FILES if within(name_of(f), ["engine", "norms", "models", "data"])], ids=name_of
)
def test_the_engine_knows_neither_trackers_nor_hydra(file):
    assert not {i for i in imports(file) if within(i, ["wandb", "rich", "hydra", "omegaconf"])}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_stay_short(file):
    assert len(file.read_text().splitlines()) <= 300, "split it: one idea per file"


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "__main__.py"], ids=name_of)
def test_every_module_says_why_it_exists(file):
    assert ast.get_docstring(ast.parse(file.read_text()))
