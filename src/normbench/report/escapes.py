"""Text with the characters of Markdown and LaTeX made harmless."""

from __future__ import annotations

import re

_LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "·": r"\textperiodcentered{}",
    "–": "--", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
    "−": "$-$", "→": r"$\to$", "…": r"\dots{}",
})  # fmt: skip
#: What starts markup: escapes, emphasis, code, links, pipes, HTML tags and entities. An underscore between
#: letters or digits starts nothing.
_MARKDOWN = re.compile(r"[\\`*\[\]|<$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|(?<=~)~")


def latex(text: str) -> str:
    r"""Text for LaTeX.

    >>> latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return text.translate(_LATEX)


def markdown(text: str) -> str:
    r"""Text for one line or cell of Markdown.

    >>> markdown("ln_chw|<b>*x*")
    'ln_chw\\|&lt;b>\\*x\\*'
    """
    return _MARKDOWN.sub(_harmless, text)


def _harmless(found: re.Match[str]) -> str:
    return {"<": "&lt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}")
