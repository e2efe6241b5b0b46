"""Data made to harm: bounded time and memory, one clear error, no code run."""

import gzip
import json
import subprocess
import sys
import time

import pandas
import pytest

from strop.data import DataError, check, read, stream

ROW = json.dumps({"prompt": "why", "completion": "so"}).encode()


def peak_megabytes_of_reading(path, how="read(sys.argv[1])"):
    """Read in a fresh process; return what it says and by how much its memory grew."""
    code = (
        "import sys\n"
        "from strop.data import DataError, read, stream\n"
        "from strop.planning.machine import peak_resident\n"
        "before = peak_resident()\n"
        f"try:\n    {how}\n"
        "except DataError as e:\n    print(str(e)[:300])\n"
        "print((peak_resident() - before) // 2**20)\n"
    )
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    *output, grown = done.stdout.strip().split("\n")
    return "\n".join(output), int(grown), time.monotonic() - begin


def test_a_gigabyte_on_one_line_is_refused_at_once(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.truncate(2**30)
    output, grown, seconds = peak_megabytes_of_reading(path)
    assert "line 1 is longer than 64 MiB" in output
    assert grown < 400
    assert seconds < 20


@pytest.mark.parametrize("content", [b"\x00", ROW + b"\n"], ids=["one line", "many rows"])
def test_a_bomb_in_gzip_is_refused(content, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(20):
            file.write(content * (2**20 // len(content)))
    output, grown, _ = peak_megabytes_of_reading(path)
    assert "grows to more than 200 times its size" in output
    assert grown < 500


def test_a_cut_gzip_file_is_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(ROW * 100)[:-20])
    with pytest.raises(DataError, match="is not a whole gzip file"):
        read(path)
    path.write_bytes(ROW)
    with pytest.raises(DataError, match="is not a whole gzip file"):
        read(path)


def test_ten_thousand_columns_are_answered_shortly(tmp_path):
    path = tmp_path / "a.csv"
    names = ",".join(f"c{i}" for i in range(10_000))
    path.write_text(f"{names}\n{names}\n", encoding="utf-8")
    with pytest.raises(DataError, match="and 9988 more") as caught:
        read(path)
    assert len(str(caught.value)) < 2000


def test_nul_bytes_are_faults_of_their_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW + b"\n" + b"\x00" * 50 + b"\n")
    with pytest.raises(DataError, match="line 2: not valid JSON"):
        read(path)


def test_an_open_quote_in_csv_is_one_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\na,b\n"a,b\n' + "x,y\n" * 1000, encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: not valid CSV: the quote .* line 1003"):
        read(path)


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_deeply_nested_json_is_refused(depth, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * depth + "]" * depth, encoding="utf-8")
    with pytest.raises(DataError, match="nested too deeply"):
        read(path)


def test_what_is_not_what_its_name_says_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"\x7fELF" * 100)
    (tmp_path / "a.json").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 nothing")
    for name in ("a.parquet", "a.json", "a.pdf"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            read(tmp_path / name)


def test_a_folder_of_texts_is_read_and_its_broken_files_named(tmp_path):
    (tmp_path / "a.txt").write_text("first", encoding="utf-8")
    (tmp_path / "b.md").write_text("# second", encoding="utf-8")
    (tmp_path / "c.html").write_text(
        "<html><head><title>x</title></head><script>evil()</script><p>third</p><p>part</p>",
        encoding="utf-8",
    )
    assert [r.text for r in read(tmp_path)] == ["first", "# second", "third\n\npart"]
    (tmp_path / "d.txt").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match=r"line 4: .*d\.txt is not UTF-8"):
        read(tmp_path)


def test_a_secret_pattern_takes_linear_time():
    text = "password " * 20_000 + "a@" * 20_000 + "1-" * 20_000 + "eyJ" * 20_000
    begin = time.monotonic()
    check([{"prompt": text, "completion": "so"}])
    assert time.monotonic() - begin < 5


def test_streaming_yields_the_rows_that_reading_gives(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes((ROW + b"\n") * 50)
    assert list(stream(path)) == list(read(path))
    with path.open("ab") as file:
        file.write(b"{\n")
    with pytest.raises(DataError, match="line 51: not valid JSON"):
        stream(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_streaming_takes_no_more_memory_for_a_larger_file(name, tmp_path):
    path, grown = tmp_path / name, {}
    for rows in (6_000, 60_000):
        words = [f"{i} {'word ' * 200}" for i in range(rows)]
        table = pandas.DataFrame({"prompt": words, "completion": words})
        if name == "a.parquet":
            table.to_parquet(path, compression=None, row_group_size=2000)
        elif name == "a.csv":
            table.to_csv(path, index=False)
        else:
            table.to_json(path, orient="records", lines=True)
        counted = "print(sum(1 for _ in stream(sys.argv[1])))"
        output, grown[rows], _ = peak_megabytes_of_reading(path, counted)
        assert output == str(rows)
    assert path.stat().st_size > 100e6
    assert grown[60_000] < grown[6_000] + 20
