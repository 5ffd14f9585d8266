"""Whether the files of a data set are there, before anything is downloaded or read. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normbench.data import published


def missing(data: Mapping[str, Any]) -> str:
    """Why the data cannot be used without a download, in one line; empty if the files are there.

    Args:
        data: the `data` group of a configuration; `name`, `path` and `root` are read.
    """
    name, path = str(data.get("name")), data.get("path")
    if name == "folder":
        if not isinstance(path, str):
            return "data=folder needs data.path=DIR-OR-ARCHIVE"
        return "" if Path(path).expanduser().exists() else f"there is nothing at data.path={path}"
    if name not in published.FILES:
        return ""
    root = published.root(data["root"] if isinstance(data.get("root"), str) else None)
    packed = published.FILES[name].archives
    if published.present(name, root) or any((root / archive).is_file() for archive in packed):
        return ""
    return f"no files of data={name} under data.root={root}; data.download=true fetches them"
