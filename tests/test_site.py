"""The site is built strictly, its links lead somewhere, and no page asks for anything outside."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
FETCHING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The links, ids, and what a browser fetches, of one page."""

    def __init__(self, file):
        super().__init__()
        self.file, self.links, self.ids, self.fetched = file, [], set(), []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in FETCHING and attributes.get(FETCHING[tag]):
            self.fetched.append(attributes[FETCHING[tag]])


@pytest.mark.slow
def test_the_site_is_built_strictly_and_asks_for_nothing_outside(tmp_path, monkeypatch):
    pytest.importorskip("mkdocstrings", reason="mkdocs-material and mkdocstrings are not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {file: Page(file) for file in tmp_path.rglob("*.html") if file.name != "404.html"}
    assert len(pages) > 20
    outside = [
        (page.file.name, place)
        for page in pages.values()
        for place in page.fetched
        if urlsplit(place).netloc
    ]
    assert not outside
    assert not [page.file for page in pages.values() if 'class="mermaid"' in page.file.read_text()]
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet
    broken = [
        (page.file.name, link)
        for page in pages.values()
        for link in [*page.links, *page.fetched]
        if not urlsplit(link).scheme and not leads_somewhere(page.file, link, pages)
    ]
    assert not broken


def leads_somewhere(file, link, pages):
    """Return whether a link of a page names a file of the site, and an id in it."""
    path, anchor = urldefrag(unquote(link))
    target = (file.parent / path).resolve() if path else file
    if target.is_dir():
        target /= "index.html"
    return target.is_file() and (not anchor or target not in pages or anchor in pages[target].ids)
