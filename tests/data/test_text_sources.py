"""Sources of text: files, folders, parquet, the standard library, sums; and what is said when they cannot be read."""

import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from ostinato.core.errors import UserError
from ostinato.data import fingerprint
from ostinato.data.addition import Addition
from ostinato.data.fingerprint import fingerprint_file
from ostinato.data.parquet import Parquet
from ostinato.data.standard_library import StandardLibrary
from ostinato.data.text import Text


def texts(source) -> list[str]:
    return [source[index]["text"] for index in range(len(source))]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes("Grüße\r\n".encode())
    (tmp_path / "sub" / "a.txt").write_text("one\n\ntwo\n\n")
    (tmp_path / "c.md").write_text("markdown")
    (tmp_path / "empty.txt").write_text("")
    return tmp_path


def test_a_file_is_a_document_and_a_folder_its_files_by_path(folder):
    assert texts(Text(0, path=folder / "b.txt")) == ["Grüße\r\n"]
    source = Text(0, path=folder)
    assert texts(source) == ["Grüße\r\n", "", "one\n\ntwo\n\n"]
    assert source.place(2) == str(folder / "sub" / "a.txt")
    assert texts(Text(0, path=folder, pattern="*.md")) == ["markdown"]


def test_a_separator_divides_and_belongs_to_no_document(folder):
    source = Text(0, path=folder, separator="\n\n")
    assert texts(source) == ["Grüße\r\n", "", "one", "two"]
    assert source.place(3) == f"{folder / 'sub' / 'a.txt'}, document 2"
    (folder / "d.txt").write_text("a<|endoftext|>b<|endoftext|><|endoftext|>c")
    assert texts(Text(0, path=folder / "d.txt", separator="<|endoftext|>")) == ["a", "b", "", "c"]


def test_the_fingerprint_is_of_names_bytes_and_separator(folder):
    base = Text(0, path=folder)
    assert base.kind == "full" and Text(1, path=folder).fingerprint == base.fingerprint
    assert Text(0, path=folder, separator="\n").fingerprint != base.fingerprint
    (folder / "b.txt").write_bytes("Grüßt\r\n".encode())
    changed = Text(0, path=folder).fingerprint
    os.rename(folder / "b.txt", folder / "bb.txt")
    assert len({base.fingerprint, changed, Text(0, path=folder).fingerprint}) == 3


def test_a_large_file_is_hashed_again_only_when_it_changes(folder, monkeypatch):
    monkeypatch.setattr(fingerprint, "REMEMBERED_FROM", 0)
    file = folder / "b.txt"
    first = fingerprint_file(file)
    status = file.stat()
    file.write_bytes("Grüße!\n".encode())  # the same size
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint_file(file) == first  # remembered by size and time: this is the cache at work
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint_file(file) != first


def test_a_huge_file_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "SAMPLED_ABOVE", 1 << 20)
    file = tmp_path / "huge.txt"
    file.write_bytes(b"a" * (3 << 20))
    first, kind = fingerprint_file(file)
    assert kind == "sampled"
    for position in (0, 1 << 20, (3 << 20) - 1):
        with file.open("r+b") as opened:
            opened.seek(position)
            opened.write(b"b")
        assert (changed := fingerprint_file(file)[0]) != first
        first = changed


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("no.txt", {}, r"no.txt: no such file or folder \(looked in "),
        (".", {"pattern": "*.csv"}, r"no file in it matches \*.csv"),
        ("empty.txt", {}, "holds no text, every file of it is empty"),
    ],
)
def test_what_cannot_be_found_is_said(folder, path, options, message):
    with pytest.raises(UserError, match=message):
        Text(0, path=folder / path, **options)


def test_bytes_that_are_no_utf8_are_placed(folder):
    (folder / "latin.txt").write_bytes(b"fine\n--\nGr\xfc\xdfe")
    with pytest.raises(UserError, match=r"latin.txt, document 2: not UTF-8 at byte 10 .*iconv"):
        texts(Text(0, path=folder / "latin.txt", separator="--\n"))
    with pytest.raises(UserError, match=r"latin.txt: not UTF-8 at byte 10"):
        texts(Text(0, path=folder / "latin.txt"))


def test_parquet_rows_over_files_and_groups(tmp_path):
    rows = [{"content": f"text {i}", "n": i} for i in range(25)]
    for name, part in (("a", rows[:10]), ("b", rows[10:])):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / f"{name}.parquet", row_group_size=4)
    whole = Parquet(0, path=tmp_path)
    assert [whole[index] for index in range(25)] == rows and len(whole) == 25
    assert [whole[index]["n"] for index in (24, 0, 13, 9, 10)] == [24, 0, 13, 9, 10]
    named = Parquet(0, path=tmp_path, columns={"text": "content"})
    assert texts(named) == [row["content"] for row in rows]
    assert named.fingerprint != whole.fingerprint
    assert whole.place(9) == f"{tmp_path / 'a.parquet'}, row 10"
    assert whole.place(17) == f"{tmp_path / 'b.parquet'}, row 8"
    with pytest.raises(UserError, match=r"a.parquet: no column 'texts'; there are content, n. Row 1: .*text 0"):
        Parquet(0, path=tmp_path, columns={"text": "texts"})
    (tmp_path / "c.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="c.parquet: not a parquet file"):
        Parquet(0, path=tmp_path)


def test_the_standard_library_is_read_in_order_without_its_tests():
    source = StandardLibrary(0, megabytes=0.5)
    places = [source.place(index) for index in range(len(source))]
    assert places == sorted(places) and "__future__.py" in places
    everything = StandardLibrary(0)
    assert "json/decoder.py" in [everything.place(index) for index in range(len(everything))]
    parts = {part for index in range(len(everything)) for part in everything.place(index).split("/")[:-1]}
    assert not parts & {"test", "tests", "site-packages", "__pycache__"}
    size = sum(len(text.encode()) for text in texts(source))
    assert 0.3e6 < size <= 0.5e6
    assert all(texts(everything)[index] for index in (0, len(everything) - 1))  # all of it is UTF-8
    with pytest.raises(UserError, match="Raise megabytes"):
        StandardLibrary(0, megabytes=1e-6)


def test_sums_are_right_all_different_and_drawn_from_the_seed():
    rows = [Addition(3, digits=1, size=100)[index] for index in range(100)]
    assert {row["prompt"] for row in rows} == {f"{a}+{b}=" for a in range(10) for b in range(10)}
    for row in rows:
        a, b = row["prompt"].rstrip("=").split("+")
        assert row["response"] == str(int(a) + int(b))
    assert [Addition(4, digits=1, size=100)[index] for index in range(100)] != rows
    later = Addition(3, digits=1, size=40, first=60)
    assert [later[index] for index in range(40)] == rows[60:]
    with pytest.raises(ValueError, match="there are 100 different sums, not 60 \\+ 41"):
        Addition(3, digits=1, size=41, first=60)
