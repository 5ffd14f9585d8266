"""The templates of the pages. Every value is escaped; invisible characters become visible."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from normbench.labels import label
from normbench.visible import visible

#: Files that pages load; they are written beside them.
STATIC = ("style.css", "script.js")


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: its file in `templates/`.
        values:   what it names.
    """
    return _environment().get_template(template).render(**values)


def static() -> dict[str, str]:
    """The style and the script, by name."""
    folder = files("normbench.pages") / "static"
    return {name: (folder / name).read_text(encoding="utf-8") for name in STATIC}


def in_lines(values: Mapping[str, Any]) -> Markup:
    """Names and values for a `pre`, a line each, escaped."""
    return Markup("\n").join(visible(f"{name}: {label(value)}") for name, value in values.items())


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("normbench.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: Any) -> Any:
    """What a page shows for a value: text without invisible characters, such as those that reverse it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
