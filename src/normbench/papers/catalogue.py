"""Finding a packaged paper table by its name and reading its file."""

from __future__ import annotations

from importlib.resources import files

import yaml
from pydantic import ValidationError

from normbench.errors import InputError, unknown
from normbench.papers.description import PaperTable


def names() -> list[str]:
    """The packaged tables, as `<citekey>/<table>`."""
    papers = (folder for folder in (files("normbench.conf") / "paper").iterdir() if folder.is_dir())
    tables = ((folder.name, file.name) for folder in papers for file in folder.iterdir())
    return sorted(f"{citekey}/{file[:-5]}" for citekey, file in tables if file.endswith(".yaml"))


def load(name: str) -> PaperTable:
    """A packaged table.

    Raises:
        InputError: there is none of that name, or its file does not say what a table must.
    """
    if name not in names():
        raise unknown("paper table", name, names())
    text = (files("normbench.conf") / "paper" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse(name, text)


def parse(name: str, text: str) -> PaperTable:
    """The table that a YAML text describes.

    Raises:
        InputError: it does not say what a table must; the first fault is named.
    """
    try:
        return PaperTable.model_validate({"name": name, **yaml.safe_load(text)})
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        fault = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            fault = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise InputError(f"paper table {name} is not well described: {' '.join(fault.split())}") from None
