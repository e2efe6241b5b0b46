"""A page as a parser of HTML sees it."""

import base64
import hashlib
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    path: tuple[str, ...]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


class Page(HTMLParser):
    """Elements of a page in their order; raises where an element is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {[e.tag for e in self._open]}"

    def handle_starttag(self, tag, attrs):
        path = tuple(e.tag for e in self._open)
        element = Element(tag, {k: v or "" for k, v in attrs}, path)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element.texts.append(data)

    def all(self, *tags: str) -> list[Element]:
        return [e for e in self.elements if e.tag in tags]

    def one(self, tag: str) -> Element:
        (element,) = self.all(tag)
        return element

    @property
    def text(self) -> str:
        return self.one("body").text

    @property
    def policy(self) -> str:
        (meta,) = (
            e
            for e in self.all("meta")
            if e.attributes.get("http-equiv", "").startswith("Content-S")
        )
        return meta.attributes["content"]

    @property
    def style_digest(self) -> str:
        digest = hashlib.sha256("".join(self.one("style").texts).encode()).digest()
        return base64.b64encode(digest).decode()
