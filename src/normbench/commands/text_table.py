"""Tables of text: aligned columns for a terminal or a file, and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from normbench.visible import visible


def columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Lines of an aligned table. The keys of the rows are its header; numbers align right, text left.

    Invisible characters become escapes, so that every row is one line.

    >>> columns([{"key": "bn", "lanes": 16}, {"key": "ln_chw", "lanes": 4}])
    ['key     lanes', 'bn         16', 'ln_chw      4']
    """
    names = list(map(visible, rows[0]))
    texts = [{visible(name): visible(str(part)) for name, part in row.items()} for row in rows]
    width = {name: max(len(name), *(len(row[name]) for row in texts)) for name in names}
    number = {name: all(_is_number(row[name]) for row in texts) for name in names}

    def line(cells: Mapping[str, str]) -> str:
        padded = (f"{cells[n]:>{width[n]}}" if number[n] else f"{cells[n]:<{width[n]}}" for n in names)
        return "  ".join(padded).rstrip()

    return [line({name: name for name in names}), *map(line, texts)]


def pipes(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Lines of a Markdown table. The keys of the rows are its header.

    >>> list(pipes([{"key": "sn", "reduces": "H, W | N, H, W"}]))[2]
    '| sn | H, W \\\\| N, H, W |'
    """
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|---" * len(rows[0]) + "|"
    for row in rows:
        yield "| " + " | ".join(visible(cell).replace("|", "\\|") for cell in row.values()) + " |"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
