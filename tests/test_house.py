"""The rules of the house that a machine can check: imports, lengths of files, docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "normbench"
FILES = sorted(SOURCE.rglob("*.py"))
NO_TORCH = (
    "errors", "synonyms", "spec", "record", "record_checks", "events", "momentum", "sources", "corruptions",
    "conditions", "labels", "store", "diagnostics", "run_series", "stored_state", "processes", "leases",
    "unfinished", "run_folder", "run_states", "signatures", "ranks", "config", "sweeps.plan",
    "sweeps.provenance", "papers", "report", "figures", "pages", "tracking", "dashboard", "merging",
    "data.shapes", "data.fingerprint",
    "digests",
    "data.published", "data.idx", "data.file_hashes", "data.walk", "data.folder_names", "cli",
    "commands.parser", "api", "parts",
    "executor_spec", "sweeps.command", "sweeps.executors.choice", "sweeps.executors.job",
    "plugins.loading", "plugins.source", "exclusive", "uncollected",
)  # fmt: skip
#: The vocabulary: torch-free values that every room may use.
WORDS = (
    "errors",
    "synonyms",
    "skipped_runs",
    "spec",
    "record",
    "record_checks",
    "events",
    "momentum",
    "sources",
    "corruptions",
    "conditions",
    "labels",
    "store",
    "tags",
    "paths",
    "phrases",
    "files",
    "groups",
    "diagnostics",
    "run_series",
    "stored_state",
    "processes",
    "leases",
    "unfinished",
    "run_folder",
    "run_states",
    "signatures",
    "parts",
    "ranks",
    "yaml_limits",
    "visible",
    "csv_rows",
    "memory",
    "leftovers",
    "numbers",
    "executor_spec",
    "uncollected",
    "exclusive",
)
#: Room → what of ours it may import besides itself. Every module stands in one of them.
ROOMS = {
    "synonyms": (),
    "errors": ("synonyms",),
    "numbers": (),
    "momentum": ("errors", "numbers"),
    "sources": ("errors", "numbers"),
    "corruptions": ("errors", "numbers"),
    "conditions": ("corruptions", "sources"),
    "labels": ("paths",),
    "paths": (),
    "phrases": (),
    "processes": (),
    "files": ("leftovers",),
    "leftovers": ("processes",),
    "leases": ("files", "leftovers", "processes"),
    "signatures": ("errors",),
    "unfinished": ("record",),
    "run_folder": ("errors", "files", "leftovers", "unfinished"),
    "yaml_limits": ("errors",),
    "visible": (),
    "csv_rows": (),
    "memory": (),
    "uncollected": (),
    "exclusive": ("leases", "run_folder"),
    "skipped_runs": ("files", "record"),
    "record": ("paths", "record_checks", "spec"),
    "record_checks": (),
    "events": ("record",),
    "groups": ("errors", "numbers", "momentum", "sources", "corruptions", "conditions"),
    "spec": ("errors", "numbers", "groups", "momentum", "paths", "digests"),
    "executor_spec": ("errors", "groups"),
    "diagnostics": ("errors", "numbers", "parts"),
    "parts": ("errors",),
    "run_series": ("record",),
    "tags": ("errors", "files"),
    "store": (
        "errors", "files", "record", "run_folder", "run_series", "signatures", "tags", "uncollected",
        "unfinished",
    ),
    "stored_state": ("errors", "store"),
    "run_states": ("leases", "processes", "record", "store", "unfinished"),
    "rng": (),
    "ranks": (),
    "instruments": (),
    "config": (*WORDS, "data.fingerprint"),
    "norms": ("errors", "parts", "momentum", "rng", "ranks", "instruments"),
    "weight_norms": ("errors",),
    "data": (
        "errors", "parts", "files", "spec", "store", "rng", "ranks", "corruptions", "visible", "memory",
        "leftovers",
    ),
    "models": (*WORDS, "rng", "norms", "weight_norms", "data"),
    "engine": (*WORDS, "rng", "norms", "weight_norms", "data", "models"),
    "autotune": (*WORDS, "instruments", "data", "models", "engine"),
    "plugins": (*WORDS, "norms", "data", "models", "engine"),
    "sweeps": (*WORDS, "data", "models", "engine", "autotune", "plugins"),
    "merging": (*WORDS, "sweeps.tidy"),
    "bench": (
        *WORDS, "instruments", "config", "norms", "weight_norms", "data", "models", "engine", "autotune",
        "sweeps",
    ),
    "tracking": WORDS,
    "dashboard": (*WORDS, "tracking"),
    "report": WORDS,
    "papers": (*WORDS, "report", "figures"),
    "pages": (*WORDS, "report", "papers"),
    "figures": (*WORDS, "report"),
    "commands": (
        *WORDS, "config", "norms", "weight_norms", "data", "models", "engine", "autotune", "sweeps", "bench",
        "plugins", "tracking", "dashboard", "report", "papers", "figures", "pages", "export",
        "templates", "merging",
    ),
    "export": (*WORDS, "norms", "weight_norms", "data", "models", "engine"),
    "api": (*WORDS, "commands", "config", "plugins", "report", "export"),
    "templates": (),
    "cli": ("errors", "ranks", "uncollected", "visible", "commands", "plugins"),
    "__main__": ("cli",),
    "": ("api", "errors"),
}  # fmt: skip


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


def ours(file: Path) -> set[str]:
    """The modules of normbench that a file imports, at its top or inside a function."""
    names = {i.removeprefix("normbench.") for i in imports(file) if i.startswith("normbench.")}
    return {
        name
        for name in names
        if (SOURCE / Path(*name.split("."))).with_suffix(".py").exists()
        or (SOURCE / Path(*name.split("."))).is_dir()
    }


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_modules_import_only_downwards(file):
    name = name_of(file)
    room = "" if name == "__init__" else name.partition(".")[0]
    strays = {module for module in ours(file) if not within(module, (room, *ROOMS[room]))}
    assert not strays, f"{name} must not import {sorted(strays)}"


def test_there_are_no_import_cycles():
    """Faces of packages apart: they import what they show."""
    graph = {name_of(f): {i for i in ours(f) if (SOURCE / Path(*i.split("."))).with_suffix(".py").exists()}
             for f in FILES if f.name != "__init__.py"}  # fmt: skip
    while leaves := [name for name, uses in graph.items() if not uses & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"a circle among {sorted(graph)}"


@pytest.mark.parametrize("file", [f for f in FILES if within(name_of(f), NO_TORCH)], ids=name_of)
def test_modules_that_plan_store_and_render_never_import_torch(file):
    assert not {i for i in imports(file, top_level_only=True) if within(i, ["torch", "torchvision"])}


@pytest.mark.parametrize(
    "file", [f for f in FILES if within(name_of(f), ["engine", "norms", "models", "data"])], ids=name_of
)
def test_the_engine_imports_neither_trackers_nor_hydra(file):
    assert not {i for i in imports(file) if within(i, ["wandb", "rich", "hydra", "omegaconf"])}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_stay_short(file):
    assert len(file.read_text().splitlines()) <= 300, "split it: one idea per file"


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "__main__.py"], ids=name_of)
def test_every_module_has_a_docstring(file):
    assert ast.get_docstring(ast.parse(file.read_text()))


def test_every_private_function_and_class_is_used_in_its_file():
    unused = []
    for file in FILES:
        text = file.read_text()
        nodes = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        private = (node.name for node in nodes if re.match("_[^_]", node.name))
        unused += [(name_of(file), name) for name in private if len(re.findall(rf"\b{name}\b", text)) == 1]
    assert not unused
