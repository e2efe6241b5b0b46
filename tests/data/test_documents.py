"""Texts of HTML pages and PDF files."""

import gzip

import pypdf

from strop.data import check, read


def test_a_page_is_read_as_it_is_seen(tmp_path):
    (tmp_path / "a.html").write_text(
        "<!doctype html><head><title>T</title><style>p{}</style><body><p>Hello\n  <b>you</b></p>"
        "<table><tr><td>a<td>b</table><script>evil()</script><pre>def f():\n    return 1</pre>",
        encoding="utf-8",
    )
    text = read(tmp_path / "a.html")[0].text
    assert text == "Hello you\n\n a b\n\ndef f():\n    return 1"


def pdf_page(text):
    """Return a PDF of one page that says `text`."""
    content = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    document, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(document))
        document += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{len(document)}\n%%EOF\n"
    return (document + f"xref\n0 6\n0000000000 65535 f \n{table}" + end).encode()


def test_pdf_files_are_read_packed_too_and_locked_or_empty_ones_are_named(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf_page("Hello page"))
    (tmp_path / "b.pdf.gz").write_bytes(gzip.compress(pdf_page("Packed page")))
    assert [row.text for row in read(tmp_path)] == ["Hello page", "Packed page"]
    locked = pypdf.PdfWriter(tmp_path / "a.pdf")
    locked.encrypt("secret", algorithm="RC4-128")
    locked.write(tmp_path / "c.pdf")
    (tmp_path / "d.pdf").write_bytes(pdf_page(""))
    findings = {f.kind: (f.rows, f.message) for f in check(tmp_path).findings}
    assert findings["unreadable_file"][0] == [3]
    assert "not been decrypted" in findings["unreadable_file"][1]
    assert findings["empty_text"][0] == [4]
