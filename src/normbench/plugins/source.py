"""The source of a plugin as sixteen hex digits: they change when its code changes, and stay when it moves.

A package counts with all its source files. A lone module counts with the modules and packages beside it that
it imports, directly or through one another. Libraries that are installed elsewhere do not count: a record
holds the versions of torch, torchvision and timm.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Files of a package that can change what it computes.
SUFFIXES = (".py", ".pyi", ".so", ".pyd", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h")


def digest(file: Path) -> str:
    """The digest of the module in a file, with its package or the modules beside it.

    Raises:
        OSError:     a file cannot be read.
        SyntaxError: a file is no Python.
    """
    package = package_of(file)
    root = file.parent if package is None else package.parent
    found = hashlib.sha256()
    for each in sorted(files_of(file)):
        content = hashlib.sha256(each.read_bytes()).hexdigest()
        found.update(f"{each.relative_to(root).as_posix()}\0{content}\n".encode())
    return found.hexdigest()[:16]


def package_of(file: Path) -> Path | None:
    """The folder of the outermost package that a module belongs to; None for a lone module."""
    found = None
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        found = folder
    return found


def files_of(file: Path) -> set[Path]:
    """The files that count for the module in a file.

    Raises:
        OSError, SyntaxError: as `digest`.
    """
    package = package_of(file)
    if package is not None:
        return set(_of_package(package))
    found, waiting = set[Path](), [file]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        if module.suffix == ".py":
            waiting += _imported(module, file.parent)
    return found


def _of_package(folder: Path) -> Iterator[Path]:
    return (f for f in folder.rglob("*") if f.suffix in SUFFIXES and f.is_file())


def _imported(module: Path, root: Path) -> list[Path]:
    """The files under a folder that a module imports, at its top or inside a function."""
    found: list[Path] = []
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found += _under(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = module.parents[node.level - 1] if node.level else root
            for alias in node.names:
                found += _under(base, [*(node.module.split(".") if node.module else ()), alias.name])
    return found


def _under(root: Path, names: Iterable[str]) -> list[Path]:
    """The files of an import: the module, or the whole package; none if it is not under the folder."""
    place = root
    for name in names:
        if (place / f"{name}.py").is_file():
            return [place / f"{name}.py"]
        place = place / name
        if (place / "__init__.py").is_file():
            return list(_of_package(place))
        if not place.is_dir():
            return []
    return []


def version_of(file: Path) -> str | None:
    """The text that a module, or its package, assigns to `__version__`; None if it assigns none."""
    package = package_of(file)
    tree = ast.parse((file if package is None else package / "__init__.py").read_bytes())
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if "__version__" in names:
                return str(node.value.value)
    return None
