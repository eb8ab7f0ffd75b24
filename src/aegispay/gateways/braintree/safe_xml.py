"""A reader for small XML documents from outside: elements and text, nothing else.

A document type is refused, so there are no entities to expand or to fetch; depth and size are bounded.
"""

from __future__ import annotations

from xml.parsers import expat

DEPTH_MAX = 40
ELEMENTS_MAX = 20_000


class Element:
    """One element: its text, and its children by name."""

    __slots__ = ("children", "name", "nil", "text")

    def __init__(self, name: str, *, nil: bool = False) -> None:
        self.name = name
        self.nil = nil
        self.text = ""
        self.children: list[Element] = []

    def find(self, *path: str) -> Element | None:
        """The first element on this path of names."""
        found: Element | None = self
        for name in path:
            found = next((child for child in found.children if child.name == name), None) if found else None
        return found

    def text_of(self, *path: str) -> str | None:
        """The text of the element on this path, without the white space around it; None where it is absent or nil."""
        found = self.find(*path)
        return None if found is None or found.nil else (found.text.strip() or None)


class _Reader:
    def __init__(self) -> None:
        self.root = Element("")
        self._open = [self.root]
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) > DEPTH_MAX or self._count > ELEMENTS_MAX:
            raise ValueError("the XML is too deep or too large")
        element = Element(name, nil=attributes.get("nil") == "true")
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def data(self, text: str) -> None:
        self._open[-1].text += text

    def doctype(self, *_: object) -> None:
        raise ValueError("the XML has a document type")


def parse(document: bytes) -> Element:
    """The document's outermost element. Raises `ValueError` for what is not a plain XML document in UTF-8."""
    reader = _Reader()
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.EntityDeclHandler = reader.doctype
    try:
        parser.Parse(document, True)
    except expat.ExpatError:
        raise ValueError("that is no XML") from None
    return reader.root.children[0]
