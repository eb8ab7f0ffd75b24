"""Just enough XML for Braintree's older gateway: a request as plain names and texts, an answer with typed elements."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from aegispay.gateways.braintree.safe_xml import Element

Node = tuple[str, object]
"""An element's name and its content: text, a number, a truth, nothing, `(type, text)`, or a list of elements."""


def render(name: str, content: object, type_: str = "") -> str:
    """One element as XML. A list of elements may be given a type (`array`, `collection`)."""
    attributes = f" type={quoteattr(type_)}" if type_ else ""
    if content is None:
        return f'<{name} nil="true"/>'
    if isinstance(content, bool):
        return f'<{name} type="boolean">{str(content).lower()}</{name}>'
    if isinstance(content, int):
        return f'<{name} type="integer">{content}</{name}>'
    if isinstance(content, tuple):
        kind, inner = content
        if kind == "array" and not inner:
            return f'<{name} type="array"/>'
        return render(name, inner, kind)
    if isinstance(content, list):
        inside = "".join(render(str(child), value) for child, value in content)
        return f"<{name}{attributes}>{inside}</{name}>"
    return f"<{name}{attributes}>{escape(str(content))}</{name}>"


def text_of(root: Element, *path: str) -> str | None:
    """The text on a path of names, of which each may be written with `_` or `-`."""
    for names in (path, tuple(name.replace("_", "-") for name in path)):
        found = root.text_of(*names)
        if found is not None:
            return found
    return None
