"""Tables as Excel and Windows write them: encodings and spreadsheets."""

import gzip
import importlib.util
import io
import json
import zipfile

import pytest

from strop.core.errors import DataError, MissingPackageError
from strop.data import Columns, check, fix, read
from strop.data.reading.read import read_by
from strop.planning.settings import Settings

ROWS = [("Was kostet das?", "Für dich 5 €, „günstig“."), ("Où ?", "À la gare, né?"), ("a", "b")]
CSV = "prompt;completion\r\n" + "".join(f"{q};{a}\r\n" for q, a in ROWS)
EXCEL = importlib.util.find_spec("python_calamine") is not None


def answers(rows):
    return [(row.messages[0]["content"], row.messages[1]["content"]) for row in rows]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_table_is_read_in_the_encoding_that_all_of_it_fits_and_that_is_said(
    encoding, packed, tmp_path
):
    path = tmp_path / ("rows.csv.gz" if packed else "rows.csv")
    content = CSV.encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)
    rows = read(path)
    assert answers(rows) == ROWS
    notes = [f.message for f in check(path).findings if f.kind == "decoded"]
    said = [f"{path} is not UTF-8 and is read as {encoding}, which all of it fits"]
    assert notes == list(rows.notes) == ([] if "8" in encoding else said)


def test_big_endian_utf16_with_tabs_and_a_text_of_windows_are_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xfe\xff" + CSV.replace(";", "\t").encode("utf-16-be"))
    assert answers(read(path)) == ROWS
    (tmp_path / "a.txt").write_bytes("Für 5 €".encode("cp1252"))
    (tmp_path / "b.md").write_bytes("Für 6 €".encode("utf-16"))
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("a.txt", "b.md"):
        (tmp_path / name).rename(texts / name)
    rows = read(texts)
    assert [row.text for row in rows] == ["Für 5 €", "Für 6 €"]
    assert [note.rsplit(" ")[-6] for note in rows.notes] == ["cp1252,", "utf-16,"]


CYRILLIC = "prompt,completion\nвопрос,Москва большая\n"
MIXED = "prompt,completion\nq,größer\n".encode() + "r,größer\n".encode("cp1252")


@pytest.mark.parametrize(
    "content", [CYRILLIC.encode("cp1251"), MIXED, b"prompt,completion\nq,\xff\x00\n"]
)
def test_what_fits_no_encoding_as_a_whole_keeps_its_faults(content, tmp_path):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"not UTF-8|could be read"):
        read(tmp_path / "rows.csv")


def test_an_encoding_can_be_forced(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(CYRILLIC.encode("cp1251"))
    rows = read_by(path, Columns(encoding="cp1251"))
    assert answers(rows) == [("вопрос", "Москва большая")]
    assert rows.notes == ()
    for name, line in (("rows.jsonl", True), ("rows.json", False)):
        record = {"prompt": "é", "completion": "ü"}
        text = json.dumps(record if line else [record], ensure_ascii=False)
        for encoding in ("cp1252", "utf-16", "utf-16-le"):
            (tmp_path / name).write_bytes(text.encode(encoding))
            assert answers(read_by(tmp_path / name, Columns(encoding=encoding))) == [("é", "ü")]
    with pytest.raises(DataError, match=r"is not ascii: .* near offset 18 of the file; give the"):
        read_by(path, Columns(encoding="ascii"))
    with pytest.raises(DataError, match="'klingon', which Python does not know; give utf-8"):
        read_by(path, Columns(encoding="klingon"))
    assert any("klingon" in fault for fault in Settings(encoding="klingon").problems())
    assert any("rot13" in fault for fault in Settings(encoding="rot13").problems())


def test_fixing_drops_nothing_that_one_encoding_explains(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(CSV.encode("cp1252"))
    assert [
        change for change in fix(path, tmp_path / "clean.jsonl") if change.action == "dropped"
    ] == []
    assert answers(read(tmp_path / "clean.jsonl")) == ROWS
    lines = [json.dumps({"prompt": q, "completion": a}, ensure_ascii=False) for q, a in ROWS]
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n".join(lines).encode("cp1252"))
    with pytest.raises(DataError, match="2 rows are not UTF-8, but all of the file fits cp1252; "):
        fix(path, tmp_path / "clean.jsonl")
    fix(path, tmp_path / "clean.jsonl", columns=Columns(encoding="cp1252"))
    assert answers(read(tmp_path / "clean.jsonl")) == ROWS


def workbook(*sheets):
    """Return a spreadsheet with these sheets, each a list of rows of cells as XML."""
    names = "".join(
        f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, (name, _) in enumerate(sheets, 1)
    )
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    package = "http://schemas.openxmlformats.org/package/2006"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r0" '
        f'Type="{kind}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{kind}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="r{i}" Type="{kind}/worksheet" Target="worksheets/s{i}.xml"/>'
            for i in range(1, len(sheets) + 1)
        )
        + "</Relationships>",
    }
    for i, (_, rows) in enumerate(sheets, 1):
        cells = "".join(
            f'<row r="{n}">'
            + "".join(_cell(c, "ABCDE"[k] + str(n)) for k, c in enumerate(row))
            + "</row>"
            for n, row in enumerate(rows, 1)
            if row
        )
        files[f"xl/worksheets/s{i}.xml"] = (
            f"<worksheet {main}><sheetData>{cells}</sheetData></worksheet>"
        )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return stream.getvalue()


def _cell(value, place):
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'


@pytest.mark.skipif(not EXCEL, reason="python-calamine is not installed")
def test_a_spreadsheet_is_read_as_it_is_seen(tmp_path):
    path = tmp_path / "rows.xlsx"
    table = [[], ["prompt", "completion", "id"], ["Größe?", 5, 1.5], [], ["q\nr", "0012", True]]
    path.write_bytes(workbook(("empty", []), ("Rows", table), ("Notes", [["x"]])))
    rows = read(path)
    assert answers(rows) == [("Größe?", "5"), ("q\nr", "0012")]
    assert [row.line for row in rows] == [3, 5]
    assert rows.notes[0] == f"of {path} the sheet Rows is read, and not Notes"
    path.write_bytes(workbook(("Rows", [["prompt", "completion", "prompt"], ["a", "b", "c"]])))
    with pytest.raises(DataError, match="the column prompt occurs more than once in line 1"):
        read(path)
    path.write_bytes(workbook(("Rows", [])))
    with pytest.raises(DataError, match="holds no rows"):
        read(path)


@pytest.mark.skipif(not EXCEL, reason="python-calamine is not installed")
@pytest.mark.parametrize(
    "damage", [lambda x: x[:200], lambda x: b"PK\x03\x04no", lambda x: b"a,b\n"]
)
def test_a_damaged_spreadsheet_is_named(damage, tmp_path):
    path = tmp_path / "rows.xlsx"
    path.write_bytes(damage(workbook(("Rows", [["prompt", "completion"], ["a", "b"]]))))
    with pytest.raises(DataError, match=r"rows\.xlsx is not a readable Excel file: "):
        read(path)


@pytest.mark.skipif(EXCEL, reason="python-calamine is installed")
def test_a_spreadsheet_needs_a_package(tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(workbook(("Rows", [["prompt"]])))
    with pytest.raises(MissingPackageError, match="python-calamine; run: pip install"):
        read(tmp_path / "rows.xlsx")
