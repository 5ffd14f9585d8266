"""Links of a page that moves: relative links follow, and those to files outside the site become text."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def moved(text: str, source: str, target: str, paths: Mapping[str, str]) -> str:
    """The text of a page with links that fit its place in the site. Code blocks stay as they are.

    Args:
        source: the path of the page in the repository; its links are relative to it, those with a leading
                slash to the repository.
        target: its path in the site.
        paths:  repository path → path in the site.

    Raises:
        FileNotFoundError: a link to a file that is not in the repository.

    >>> moved("[log](docs/LOG.md#a)", "README.md", "project/readme.md", {"docs/LOG.md": "LOG.md"})
    '[log](../LOG.md#a)'
    >>> moved("[licence](LICENSE)", "README.md", "index.md", {})
    'licence (`LICENSE`)'
    """
    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(lambda m: _link(m, source, target, paths), part) for part in parts[::2]]
    return "".join(parts)


def _link(match: re.Match[str], source: str, target: str, paths: Mapping[str, str]) -> str:
    mark, words, link = match.groups()
    path, _, anchor = link.partition("#")
    if not path or ":" in path:
        return match[0]
    whole = posixpath.normpath(posixpath.join("/", posixpath.dirname(source), path)).lstrip("/")
    if whole == "docs/NORMS.md" and anchor:  # the site has a page per norm
        whole, anchor = f"docs/norms/{anchor}.md", ""
    if whole in paths:
        new = posixpath.relpath(paths[whole], posixpath.dirname(target) or ".")
        return f"{mark}[{words}]({new}{f'#{anchor}' if anchor else ''})"
    if not (ROOT / whole).exists():
        raise FileNotFoundError(f"{source} links to {link}, and there is no {whole}")
    return words if words.strip("`") == whole else f"{words} (`{whole}`)"
