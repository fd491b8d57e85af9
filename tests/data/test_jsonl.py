"""JSON by row: what is read, where it is, and what is said of a bad line."""

import gzip
import json
import sys

import pyarrow
import pytest

from ostinato.core.errors import UserError
from ostinato.core.registry import DATASETS
from ostinato.data import json_array, line_index
from ostinato.data.jsonl import Jsonl


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OSTINATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path, *lines, end="\n"):
    path.write_bytes("\n".join(lines).encode() + end.encode())
    return path


ROWS = [{"text": "one"}, {"text": "zwei ü"}, {"text": "drei\nlines"}]


@pytest.mark.parametrize("end", ["\n", ""])
def test_rows_and_their_places_skip_blank_lines(tmp_path, end):
    lines = [json.dumps(ROWS[0]), "", json.dumps(ROWS[1], ensure_ascii=False), " \t\r", " " + json.dumps(ROWS[2])]
    source = Jsonl(0, path=write(tmp_path / "a.jsonl", *lines, end=end))
    assert [source[i] for i in range(len(source))] == ROWS
    assert [source.place(i).rpartition(":")[2] for i in range(3)] == ["1", "3", "5"]
    with pytest.raises(IndexError):
        source[3]


def test_it_is_registered():
    assert DATASETS.get("jsonl") is Jsonl


def test_crlf_and_byte_order_mark(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b'{"text": "one"}\r\n\r\n{"text": "two"}\r\n')
    source = Jsonl(0, path=file)
    assert [source[0], source[1]] == [{"text": "one"}, {"text": "two"}]
    assert source.place(1) == f"{file}:3"


def zst(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zst)])


@PACKERS
def test_packed_file_reads_as_the_plain_one(tmp_path, cache, ending, pack):
    plain = write(tmp_path / "a.jsonl", json.dumps(ROWS[0]), "", *map(json.dumps, ROWS[1:]))
    packed = tmp_path / f"b.jsonl{ending}"
    packed.write_bytes(pack(plain.read_bytes()))
    (tmp_path / f"copy.jsonl{ending}").write_bytes(packed.read_bytes())
    source = Jsonl(0, path=packed)
    assert [source[i] for i in range(3)] == ROWS
    assert source.place(2) == f"{packed}:4"
    assert Jsonl(0, path=tmp_path / f"copy.jsonl{ending}")[1] == ROWS[1]
    assert len(list((cache / "unpacked").iterdir())) == 1  # the copy is the same content


@PACKERS
def test_packed_pieces_one_after_the_other_are_all_read(tmp_path, cache, ending, pack):
    lines = [json.dumps(row).encode() + b"\n" for row in ROWS]
    (tmp_path / f"b.jsonl{ending}").write_bytes(b"".join(map(pack, lines)))  # as parallel packers write it
    source = Jsonl(0, path=tmp_path / f"b.jsonl{ending}")
    assert [source[i] for i in range(len(source))] == ROWS


@PACKERS
def test_cut_packed_file_is_refused(tmp_path, cache, ending, pack):
    packed = tmp_path / f"b.jsonl{ending}"
    packed.write_bytes(pack(json.dumps(ROWS).encode() * 100)[:-9])
    with pytest.raises(UserError, match=f"not a whole {ending} file"):
        Jsonl(0, path=packed)
    packed.write_bytes(b"{}")
    with pytest.raises(UserError, match=f"not a whole {ending} file"):
        Jsonl(0, path=packed)
    assert list((cache / "unpacked").iterdir()) == []


def test_zst_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "b.jsonl.zst").write_bytes(zst(b"{}"))
    for module in ("compression", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'ostinato\[parquet\]'"):
        Jsonl(0, path=tmp_path / "b.jsonl.zst")


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_one_array_is_rows(tmp_path, monkeypatch, name, mark, piece):
    monkeypatch.setattr(json_array, "PIECE", piece)
    file = tmp_path / name
    text = mark + ("\r\n[ " + json.dumps(ROWS[0]) + " ,\n" + json.dumps(ROWS[1:], indent=1)[1:] + "\n").encode()
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    source = Jsonl(0, path=file)
    assert [source[i] for i in range(len(source))] == ROWS
    # line 1 is empty, 2 opens the array, each later object takes three lines
    assert [source.place(i) for i in range(3)] == [f"{file}:{line}" for line in (2, 4, 7)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n{"a" 2}]', r"a\.json:2: not a JSON array at byte 16: Expecting ':' delimiter, near '2}\]'"),
        ('[{"a": 1}\n{"a": 2}]', r"a\.json:2: not a JSON array at byte 10: Expecting ',' or '\]', near"),
        ('[{"a": 1}', r"a\.json:1: not a JSON array at byte 9: Expecting ',' or '\]', near ''"),
        ('[{"a": 1}] []', r"Extra data behind the array"),
        ("[1, 2]", r"a\.json:1: '1' is no JSON object"),
        ('{\n "a": 1\n}', r"a\.json:1: an object over several lines"),
        ("[]", "holds no rows"),
        ("", "holds no rows"),
        ('["\xff"]', "not UTF-8 text"),
    ],
)
def test_what_is_no_array_of_objects(tmp_path, text, message):
    file = tmp_path / "a.json"
    file.write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=message):
        Jsonl(0, path=file)[0]


def test_lines_in_a_json_file_are_rows(tmp_path):
    source = Jsonl(0, path=write(tmp_path / "a.json", *map(json.dumps, ROWS)))
    assert [source[i] for i in range(3)] == ROWS and source.place(2).endswith("a.json:3")


def test_a_path_may_be_a_pattern(tmp_path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    write(tmp_path / "x" / "b.jsonl", json.dumps(ROWS[1]))
    write(tmp_path / "x" / "y" / "a.jsonl", json.dumps(ROWS[0]))
    write(tmp_path / "x" / "y" / "a.txt", "none of it")
    source = Jsonl(0, path=tmp_path / "x" / "**" / "*.jsonl")
    assert [source[i] for i in range(2)] == [ROWS[1], ROWS[0]]
    assert source.fingerprint == Jsonl(0, path=tmp_path / "x").fingerprint
    odd = tmp_path / "x[1]"
    odd.mkdir()
    assert Jsonl(0, path=write(odd / "c.jsonl", json.dumps(ROWS[2])))[0] == ROWS[2]
    with pytest.raises(UserError, match=r"no file in it matches y\*/\*.json\."):
        Jsonl(0, path=tmp_path / "x" / "y*" / "*.json")


def test_folder_is_read_in_order_of_names(tmp_path):
    write(tmp_path / "b.jsonl", json.dumps(ROWS[1]), json.dumps(ROWS[2]))
    write(tmp_path / "a.jsonl", json.dumps(ROWS[0]))
    source = Jsonl(0, path=tmp_path)
    assert [source[i] for i in range(3)] == ROWS
    assert source.place(2) == f"{tmp_path / 'b.jsonl'}:2"


def test_columns_rename_and_select(tmp_path):
    file = write(tmp_path / "a.jsonl", json.dumps({"question": "2+2?", "answer": "4", "id": 7}), '{"question": "?"}')
    source = Jsonl(0, path=file, columns={"prompt": "question", "response": "answer"})
    assert source[0] == {"prompt": "2+2?", "response": "4"}
    with pytest.raises(UserError, match=r"a\.jsonl:2: no column 'answer'; there are question\. Row 2: \{\"q"):
        source[1]


def test_fingerprint_follows_bytes_and_columns_not_names(tmp_path):
    one = Jsonl(0, path=write(tmp_path / "a.jsonl", *map(json.dumps, ROWS)))
    same = Jsonl(1, path=write(tmp_path / "b.jsonl", *map(json.dumps, ROWS)))
    other = Jsonl(0, path=write(tmp_path / "c.jsonl", *map(json.dumps, ROWS[:2])))
    renamed = Jsonl(0, path=tmp_path / "a.jsonl", columns={"response": "text"})
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, other.fingerprint, renamed.fingerprint}) == 3
    assert {len(source.fingerprint) for source in (one, renamed)} == {32}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a" "b"}', r":2: not JSON at column 14: Expecting ',' delimiter, near .*Correct the line"),
        ('["a"', r":2: a line begins with .* not JSON Lines"),
        ('["a"]', r":2: .* is no JSON object"),
        ("17", r":2: '17' is no JSON object"),
        ('{"text": "\\ud83d"}', r":2: not UTF-8 text"),
    ],
)
def test_bad_line_is_named(tmp_path, line, message):
    source = Jsonl(0, path=write(tmp_path / "a.jsonl", '{"text": "good"}', line))
    assert source[0] == {"text": "good"}
    with pytest.raises(UserError, match=message):
        source[1]


def test_bytes_that_are_no_text_are_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(UserError, match=r":1: not UTF-8 text"):
        Jsonl(0, path=file)[0]


def test_surrogate_pair_is_text(tmp_path):
    assert Jsonl(0, path=write(tmp_path / "a.jsonl", '{"text": "\\ud83d\\ude00"}'))[0] == {"text": "\U0001f600"}


def test_no_rows_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no rows"):
        Jsonl(0, path=write(tmp_path / "a.jsonl", "", " "))
    with pytest.raises(UserError, match="no such file"):
        Jsonl(0, path=tmp_path / "b.jsonl")


def test_index_of_a_large_file_is_kept_and_follows_the_file(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(line_index, "REMEMBERED_FROM", 1)
    monkeypatch.setattr(line_index, "CHUNK", 7)  # so that lines cross chunks
    file = write(tmp_path / "a.jsonl", *map(json.dumps, ROWS))
    assert [Jsonl(0, path=file)[i] for i in range(3)] == ROWS
    assert len(list((cache / "lines").iterdir())) == 1
    monkeypatch.setattr(line_index, "find_lines", None)  # cannot be called again
    assert Jsonl(0, path=file)[2] == ROWS[2]
    monkeypatch.undo()
    write(file, *map(json.dumps, [*ROWS, {"text": "four"}]))
    assert len(Jsonl(0, path=file)) == 4
