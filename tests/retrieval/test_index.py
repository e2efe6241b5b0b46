"""An index of documents: what is found, what is brought up to date, what is refused."""

import io
import json
import zipfile

import numpy as np
import pypdf
import pytest

from strop.core.errors import ConfigError, DataError
from strop.core.files import read_sealed, write_sealed
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.index import Index, best, fuse
from tests.tiny.pdf import pdf

HANDBOOK = """# Handbook

## Leave

Staff get 30 days of leave a year.

## Pay

Wages are paid on the 25th of each month.
"""
WORDS_ALONE = Indexing(embedder="none")
DOCX = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.wordprocessingml.document.main+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
    'officeDocument" Target="word/document.xml"/></Relationships>',
    "word/document.xml": '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/'
    'main"><w:body><w:p><w:r><w:t>The parking fee is nine euro.</w:t></w:r></w:p></w:body></w:document>',
}


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "handbook.md").write_text(HANDBOOK)
    page = "<head><title>Travel</title></head><h1>Hotels</h1><p>Up to 120 euro a night.</p>"
    (folder / "sub" / "travel.html").write_text(page)
    rows = [{"text": "東京は日本の首都です。", "id": 7}, {"text": "กรุงเทพเป็นเมืองหลวงของประเทศไทย"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


FORMS = {
    "english": (
        "A night costs 90 euros, and the cancelled ones are billed to you.",
        "cost",
    ),
    "german": (
        "Die Kündigungen werden mit dem Ende des Monats gültig.",
        "Kündigung",
    ),
    "french": (
        "Les chambres sont nettoyées dans la matinée par les employés.",
        "chambre",
    ),
    "russian": ("Номера с видом на море и для семей стоят дороже.", "номер"),
}
"""Sentences, and another form of one of their words."""


def built(docs, how=WORDS_ALONE):
    out = docs.parent / "index"
    return build_index(docs, out, how), out


def sources(out, question, **options):
    return [hit.source for hit in Index(out, **options).search(question)]


def test_each_kind_of_document_is_found_by_its_words(docs):
    with zipfile.ZipFile(docs / "parking.docx", "w") as archive:
        for name, content in DOCX.items():
            archive.writestr(name, content)
    summary, out = built(docs)
    assert summary["documents"] == 4
    assert sources(out, "days of leave")[0] == "handbook.md"
    assert sources(out, "hotels")[0] == "sub/travel.html"
    assert sources(out, "parking fee")[0] == "parking.docx"


def test_a_hit_has_its_text_verbatim_and_its_titles(docs):
    _, out = built(docs)
    hit = Index(out).search("wages")[0]
    assert hit.text in HANDBOOK
    assert hit.title == "Handbook › Pay"
    assert hit.score == 1.0


@pytest.mark.parametrize(
    ("question", "source"), [("日本の首都", "rows.jsonl:1"), ("เมืองหลวง", "rows.jsonl:2")]
)
def test_scripts_without_spaces_are_found_inside_a_sentence(docs, question, source):
    _, out = built(docs)
    assert sources(out, question) == [source]


def test_columns_of_a_row_stay_with_its_chunk(docs):
    _, out = built(docs)
    assert Index(out).search("東京")[0].fields == {"id": 7}


def test_only_changed_files_are_read_and_those_that_are_gone_are_dropped(docs):
    built(docs)
    (docs / "handbook.md").write_text(HANDBOOK.replace("25th", "27th"))
    (docs / "sub" / "travel.html").unlink()
    summary, out = built(docs)
    assert (summary["read"], summary["unchanged"], summary["removed"]) == (1, 1, 1)
    assert "27th" in Index(out).search("wages")[0].text
    assert "sub/travel.html" not in sources(out, "hotels handbook")


def test_a_changed_byte_is_refused_until_the_index_is_built_again(docs):
    _, out = built(docs)
    file = out / "chunks.jsonl"
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="--rebuild"):
        Index(out)
    with pytest.raises(DataError, match="--rebuild"):
        built(docs)
    built(docs, Indexing(embedder="none", rebuild=True))
    assert sources(out, "hotels")


def test_a_folder_that_is_no_index_is_never_replaced(docs):
    out = docs.parent / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is no index"):
        build_index(docs, out, WORDS_ALONE)
    with pytest.raises(ConfigError, match="would replace the documents"):
        build_index(docs / "sub", docs, WORDS_ALONE)


def test_an_index_of_other_documents_is_not_replaced_by_accident(docs):
    _, out = built(docs)
    with pytest.raises(ConfigError, match="is an index of"):
        build_index(docs / "sub", out, WORDS_ALONE)


def test_an_index_among_its_documents_is_none_of_them(docs):
    out = docs / "index"
    first = build_index(docs, out, WORDS_ALONE)
    again = build_index(docs, out, WORDS_ALONE)
    assert first["documents"] == again["documents"] == again["unchanged"]


def test_a_folder_without_documents_is_refused(tmp_path):
    (tmp_path / "docs").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        built(tmp_path / "docs")


def test_a_page_of_a_pdf_is_found_by_its_text(docs):
    (docs / "manual.pdf").write_bytes(pdf("The pump is red.", "The valve opens at noon."))
    summary, path = built(docs)
    assert summary["skipped"] == {}
    hit = Index(path).search("When does the valve open?", 1)[0]
    assert (hit.text, hit.source) == ("The valve opens at noon.", "manual.pdf#page=2")


def test_a_scanned_pdf_is_named_and_the_rest_is_indexed(docs):
    writer = pypdf.PdfWriter()
    writer.add_blank_page(200, 200)
    content = io.BytesIO()
    writer.write(content)
    (docs / "scan.pdf").write_bytes(content.getvalue())
    summary, _ = built(docs)
    assert "seems to be scanned" in summary["skipped"]["scan.pdf"]
    assert summary["documents"] == 3


def test_bytes_that_are_no_text_are_named_and_the_rest_is_indexed(docs):
    (docs / "broken.txt").write_bytes(b"words \xff\x00\x81 more")
    summary, _ = built(docs)
    assert "not UTF-8" in summary["skipped"]["broken.txt"]


def test_an_index_needs_no_words_in_its_documents(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "signs.txt").write_text("!!! ???")
    _, out = built(tmp_path / "docs")
    assert Index(out).search("anything") == []


def test_a_question_must_say_something(docs):
    _, out = built(docs)
    with pytest.raises(ConfigError, match="empty"):
        Index(out).search("  ")


def test_the_best_scores_come_in_order_and_equal_ones_as_they_stand():
    scores = np.array([1, 3, 2, 3, 0], np.float32)
    assert best(scores, 3).tolist() == [1, 3, 2]
    assert best(scores, 9, above=0.0).tolist() == [1, 3, 2, 0]


def test_reciprocal_rank_fusion_prefers_what_both_rankings_have():
    fused = fuse([np.array([4, 5]), np.array([5, 6])], [1.0, 1.0])
    assert list(fused) == [5, 4, 6]
    assert fused[5] == pytest.approx((61 / 62 + 1) / 2)


def test_the_first_of_both_rankings_scores_one():
    assert fuse([np.array([2]), np.array([2])], [1.0, 0.2])[2] == 1.0


@pytest.mark.parametrize("language", FORMS)
def test_other_forms_of_a_word_are_found_in_the_language_of_the_documents(tmp_path, language):
    sentence, word = FORMS[language]
    (tmp_path / "a.txt").write_text(sentence)
    result = build_index(tmp_path / "a.txt", tmp_path / "index", WORDS_ALONE)
    assert result["language"] == language
    index = Index(tmp_path / "index")
    assert word not in sentence.split()
    assert index.search(word)[0].lexical > 0


def test_words_of_no_known_language_are_searched_as_they_are_written(tmp_path):
    (tmp_path / "a.txt").write_text("Kolme huonetta, kaksi kylpyhuonetta. Costs ABC-120, ABC-121.")
    result = build_index(tmp_path / "a.txt", tmp_path / "index", WORDS_ALONE)
    assert result["language"] is None
    assert sources(tmp_path / "index", "abc 121") == ["a.txt"]
    assert not sources(tmp_path / "index", "cost")


def test_an_index_of_an_older_form_is_to_be_rebuilt(docs):
    _, out = built(docs)
    record = read_sealed(out / "index.json")
    write_sealed(out / "index.json", {**record, "version": 1})
    with pytest.raises(DataError, match=r"another version of strop; .*--rebuild"):
        Index(out)
    build_index(docs, out, Indexing(embedder="none", rebuild=True))
    assert Index(out).search("leave")
