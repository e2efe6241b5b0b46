"""Texts of HTML pages and PDF files."""

import gzip

import pypdf

from strop.data import check, read
from tests.tiny.pdf import pdf


def test_a_page_is_read_as_it_is_seen(tmp_path):
    (tmp_path / "a.html").write_text(
        "<!doctype html><head><title>T</title><style>p{}</style><body><p>Hello\n  <b>you</b></p>"
        "<table><tr><td>a<td>b</table><script>evil()</script><pre>def f():\n    return 1</pre>",
        encoding="utf-8",
    )
    text = read(tmp_path / "a.html")[0].text
    assert text == "Hello you\n\n a b\n\ndef f():\n    return 1"


def test_pdf_files_are_read_packed_too_and_locked_or_empty_ones_are_named(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf("Hello page"))
    (tmp_path / "b.pdf.gz").write_bytes(gzip.compress(pdf("Packed page")))
    assert [row.text for row in read(tmp_path)] == ["Hello page", "Packed page"]
    locked = pypdf.PdfWriter(tmp_path / "a.pdf")
    locked.encrypt("secret", algorithm="RC4-128")
    locked.write(tmp_path / "c.pdf")
    (tmp_path / "d.pdf").write_bytes(pdf(""))
    findings = {f.kind: (f.rows, f.message) for f in check(tmp_path).findings}
    assert findings["unreadable_file"][0] == [3]
    assert "not been decrypted" in findings["unreadable_file"][1]
    assert findings["empty_text"][0] == [4]
