"""Pages as a reader of HTML sees them: elements with attributes and text, in the order of the page."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

#: Elements without an end tag.
VOID = ("meta", "link", "img", "br", "input")


@dataclass
class Element:
    """An element with its attributes and all text inside it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


class Reader(HTMLParser):
    """Collects the elements of a page; `open` is empty at the end of a well-formed one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1].tag == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str, **wanted: str) -> list[Element]:
        """Elements of a tag with these attributes; `cls` stands for class."""
        wanted = {"class" if name == "cls" else name: value for name, value in wanted.items()}
        return [
            each for each in self.elements
            if each.tag == tag and all(each.attributes.get(k) == v for k, v in wanted.items())
        ]  # fmt: skip
