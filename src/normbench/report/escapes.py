"""Text with the characters of Markdown and LaTeX made harmless."""

from __future__ import annotations

import re

from normbench.visible import visible

_LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "·": r"\textperiodcentered{}",
    "–": "--", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
    "−": "$-$", "→": r"$\to$", "…": r"\dots{}", "÷": r"$\div$",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\varepsilon$",
    "η": r"$\eta$", "λ": r"$\lambda$", "µ": r"$\mu$", "μ": r"$\mu$", "σ": r"$\sigma$", "τ": r"$\tau$",
    "Δ": r"$\Delta$",
}  # fmt: skip
_TRANSLATED = "".join(map(re.escape, _LATEX))
#: A character that is translated, or several that pdfLaTeX's standard fonts lack.
_SPECIAL = re.compile(f"[{_TRANSLATED}]|[^ -~À-ÏÑ-ÖØ-Ýß-ïñ-öø-ýÿ{_TRANSLATED}]+")
#: What starts markup: escapes, emphasis, code, links, pipes, HTML tags and entities. An underscore between
#: letters or digits starts nothing.
_MARKDOWN = re.compile(r"[\\`*\[\]|<$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|(?<=~)~")

#: The same for sentences: code in backticks stays, brackets stay unless they make a link, and < unless it
#: starts a tag.
_PROSE = re.compile(
    r"`[^`]+`|[\\`*|]|\](?=[(\[:])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|(?<=~)~"
    r"|^[#>+-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]"
)


def latex(text: str) -> str:
    r"""Text for LaTeX. If pdfLaTeX lacks characters, it prints their numbers; LuaLaTeX prints all of them.

    >>> latex("50 % of a_b")
    '50 \\% of a\\_b'
    >>> latex("图")
    '{\\ifdefined\\Umathchar 图\\else [U+56FE]\\fi}'
    """
    return _SPECIAL.sub(lambda found: _LATEX.get(found[0]) or _numbered(found[0]), text)


def latex_first(text: str) -> str:
    r"""Text that starts a cell of LaTeX: after `\\` or `&`, a bracket or star would be taken for an argument.

    >>> latex_first("[a]"), latex_first("a")
    ('{}[a]', 'a')
    """
    made = latex(text)
    return f"{{}}{made}" if text[:1] in ("[", "*") else made


def _numbered(characters: str) -> str:
    numbers = " ".join(f"U+{ord(character):04X}" for character in characters)
    return rf"{{\ifdefined\Umathchar {characters}\else [{numbers}]\fi}}"


def markdown(text: str) -> str:
    r"""Text for one line or cell of Markdown.

    >>> markdown("ln_chw|<b>*x*")
    'ln_chw\\|&lt;b>\\*x\\*'
    """
    return _MARKDOWN.sub(_harmless, text)


def prose(text: str) -> str:
    r"""A user's sentence as one line of Markdown: it shows the characters as written, and `code` as code.

    >>> prose("x [1, 2] < 3 `<i>` <b>*y*</b>")
    'x [1, 2] < 3 `<i>` &lt;b>\\*y\\*&lt;/b>'
    """
    return _PROSE.sub(_harmless, visible(" ".join(text.split())))


def _harmless(found: re.Match[str]) -> str:
    if len(found[0]) > 1:  # code
        return found[0]
    return {"<": "&lt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}")
