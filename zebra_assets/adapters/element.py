"""HTML as an element tree, so that every value on a page is escaped by construction. Used by the small self-contained pages."""

from typing import Any
from xml.etree.ElementTree import Element, tostring


def page(title: str, style: str, body: Element) -> str:
    """A whole document: no script, no font, no request."""
    head = el("head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"))
    head.extend([el("title", title), el("style", style)])
    return "<!doctype html>\n" + tostring(el("html", head, body, lang="en"), encoding="unicode", method="html")


def el(tag: str, *children: Element | str, **attributes: Any) -> Element:
    """An element; text among the children stays text, whatever it contains. `class_` is class, other '_' are '-'."""
    element = Element(tag, {k.rstrip("_").replace("_", "-"): _clean(str(v)) for k, v in attributes.items() if v != ""})
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + _clean(child)
        else:
            element.text = (element.text or "") + _clean(child)
    return element


def _clean(text: str) -> str:
    """Control characters and lone surrogates, which no page may hold, as '�'."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
