"""Finding a table by its name or its file: packaged tables, and those of a user's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml
from pydantic import ValidationError

from normbench.errors import InputError, unknown
from normbench.papers.description import PaperTable
from normbench.yaml_limits import check_yaml

SUFFIXES = (".yaml", ".yml")


def names(own: str | None = None) -> list[str]:
    """The tables that have a name: `<citekey>/<table>`.

    Args:
        own: the user's configuration folder; its tables lie in `paper/<folder>/<table>.yaml`.
    """
    return sorted({name for root in _roots(own) for name, _ in _tables(root)})


def load(name: str, own: str | None = None) -> PaperTable:
    """A table by its name, or by the path of its file. A table of one's own hides a packaged one.

    Args:
        name: `<citekey>/<table>`, or a path that ends in .yaml.
        own:  the user's configuration folder.

    Raises:
        InputError: there is no such table, or its file does not say what a table must.
    """
    if name.endswith(SUFFIXES):
        return _from_path(Path(name))
    for root in _roots(own):
        for found, file in _tables(root):
            if found == name:
                return parse(name, _text(name, file))
    raise unknown("paper table", name, names(own), remedy="a table of your own may be given as PATH.yaml")


def parse(name: str, text: str, file: str = "") -> PaperTable:
    """The table that a YAML text describes.

    Args:
        file: the path of the text, if a user gave it.

    Raises:
        InputError: it does not say what a table must; the first fault is named.
    """
    check_yaml(text, f"paper table {name}")
    try:
        tree = yaml.safe_load(text)
        if not isinstance(tree, dict) or tree.keys() & {"name", "file"}:
            raise TypeError("it must be a mapping of title, scales and so on, without a name or a file")
        return PaperTable.model_validate({**tree, "name": name, "file": file})
    except (ValidationError, yaml.YAMLError, TypeError, RecursionError) as error:
        fault = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            said = first["msg"].removeprefix("Value error, ")
            fault = f"{place}: {said}" if place else said
        raise InputError(f"paper table {name} is not well described: {' '.join(fault.split())}") from None


def _from_path(path: Path) -> PaperTable:
    """A table from a file. Its name is the file's, after the folder's name below a folder called paper."""
    if not path.is_file():
        raise InputError(f"no file at {path}; give a packaged table's name or the path of a YAML file")
    whole = path.absolute()
    below = whole.parent.parent.name == "paper"
    name = f"{whole.parent.name}/{whole.stem}" if below else whole.stem
    return parse(name, _text(str(path), path), str(path))


def _text(name: str, file: Traversable) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"paper table {name} cannot be read: {error}") from None


def _roots(own: str | None) -> list[Traversable]:
    """The folders with tables; the user's own comes first."""
    packaged = files("normbench.conf") / "paper"
    return [packaged] if own is None else [Path(own) / "paper", packaged]


def _tables(root: Traversable) -> Iterator[tuple[str, Traversable]]:
    if not root.is_dir():
        return
    for folder in root.iterdir():
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.name.endswith(".yaml"):
                yield f"{folder.name}/{file.name.removesuffix('.yaml')}", file
