"""Arrow files by row: what `datasets` saves, the file and the stream format, and what is refused."""

import json

import datasets
import pyarrow
import pyarrow.feather
import pytest

from ostinato.core.errors import UserError
from ostinato.core.registry import DATASETS
from ostinato.data.arrow import Arrow
from ostinato.data.parquet import Parquet

CHATS = [
    {"messages": [{"role": "user", "content": f"Grüße {i}"}, {"role": "assistant", "content": "yo"}], "id": i}
    for i in range(25)
]


def rows(source):
    return [source[index] for index in range(len(source))]


def test_a_saved_dataset(tmp_path):
    saved = datasets.Dataset.from_list(CHATS)
    saved.save_to_disk(tmp_path / "a", num_shards=3)
    source = DATASETS.get("arrow")(0, path=tmp_path / "a")
    assert rows(source) == CHATS and source.kind == "full" and len(source.fingerprint) == 32
    assert source.place(9) == f"{tmp_path / 'a' / 'data-00001-of-00003.arrow'}, row 1"  # 9 rows, 8 and 8
    with pytest.raises(IndexError):
        source[25]
    saved.select(range(20, 10, -1)).save_to_disk(tmp_path / "b")
    picked = Arrow(0, path=tmp_path / "b")
    assert [row["id"] for row in rows(picked)] == list(range(20, 10, -1))
    assert picked.fingerprint != source.fingerprint


def test_a_split_of_a_saved_dict(tmp_path):
    whole = datasets.Dataset.from_list(CHATS)
    datasets.DatasetDict({"train": whole, "test": whole.select([3])}).save_to_disk(tmp_path)
    assert rows(Arrow(0, path=tmp_path, split="test")) == [CHATS[3]]
    with pytest.raises(UserError, match=r"which of its splits is read is not said. .*split: train, test\."):
        Arrow(0, path=tmp_path)
    with pytest.raises(UserError, match=r"has no split 'dev'\. Set the dataset's split: train, test"):
        Arrow(0, path=tmp_path, split="dev")
    with pytest.raises(UserError, match=r"has no splits, but split is test"):
        Arrow(0, path=tmp_path / "train", split="test")


def write(path, table, form, **options):
    with form(str(path), table.schema, **options) as writer:
        for batch in table.to_batches(max_chunksize=4):
            writer.write_batch(batch)
    return path


def test_files_and_streams_packed_ones_too(tmp_path):
    table = pyarrow.Table.from_pylist(CHATS)
    write(tmp_path / "a.arrow", table, pyarrow.ipc.new_stream)
    write(tmp_path / "b.arrow", table, pyarrow.ipc.new_file)
    packed = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    write(tmp_path / "c.arrow", table, pyarrow.ipc.new_file, options=packed)
    for name in "abc":
        assert rows(Arrow(0, path=tmp_path / f"{name}.arrow")) == CHATS
    whole = Arrow(0, path=tmp_path)
    assert rows(whole) == CHATS * 3 and whole.place(30) == f"{tmp_path / 'b.arrow'}, row 6"
    pyarrow.feather.write_feather(table, tmp_path / "d.feather")
    assert rows(Arrow(0, path=tmp_path / "d.feather")) == CHATS


def test_columns(tmp_path):
    pyarrow.feather.write_feather(pyarrow.Table.from_pylist([{"q": "2+2?", "a": "4"}]), tmp_path / "a.arrow")
    columns = {"prompt": "q", "response": "a", "answer": "a"}
    source = Arrow(0, path=tmp_path / "a.arrow", columns=columns)
    assert rows(source) == [{"prompt": "2+2?", "response": "4", "answer": "4"}]
    assert source.fingerprint != Arrow(0, path=tmp_path / "a.arrow").fingerprint
    with pytest.raises(
        UserError, match=r'a.arrow: no column \'x\'; there are q, a\. Row 1: \{"q": "2\+2\?", "a": "4"\}'
    ):
        Arrow(0, path=tmp_path / "a.arrow", columns={"prompt": "x"})


@pytest.mark.parametrize("name", ["a.arrow", "a.parquet"])
def test_null_fields_of_structs_are_not_there(tmp_path, name):
    """A table gives all messages the fields that any of them has."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
    chats = [{"messages": [{"role": "user", "content": "hi"}, call], "system": None}]
    saved = datasets.Dataset.from_list(chats)
    if name == "a.arrow":
        saved.save_to_disk(tmp_path / name)
        assert Arrow(0, path=tmp_path / name)[0] == chats[0]
    else:
        saved.to_parquet(tmp_path / name)
        assert Parquet(0, path=tmp_path / name)[0] == chats[0]


def test_what_is_refused(tmp_path):
    table = pyarrow.Table.from_pylist(CHATS)
    for form in (pyarrow.ipc.new_stream, pyarrow.ipc.new_file):
        whole = write(tmp_path / "a.arrow", table, form).read_bytes()
        for cut in (0, 3, 100, len(whole) // 2, len(whole) - 8):
            (tmp_path / "b.arrow").write_bytes(whole[:cut])
            with pytest.raises(UserError, match=r"b.arrow: .* (Fetch it again, or save it again)"):
                Arrow(0, path=tmp_path / "b.arrow")
    write(tmp_path / "c.arrow", table.slice(0, 0), pyarrow.ipc.new_file)
    with pytest.raises(UserError, match="holds no rows"):
        Arrow(0, path=tmp_path / "c.arrow")


def test_damaged_folders_are_refused(tmp_path):
    datasets.Dataset.from_list(CHATS).save_to_disk(tmp_path / "a", num_shards=2)
    (tmp_path / "a" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(UserError, match=r"data-00001-of-00002.arrow: is missing, but .*state.json names it"):
        Arrow(0, path=tmp_path / "a")
    state = tmp_path / "a" / "state.json"
    state.write_text(json.dumps({"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}))
    with pytest.raises(UserError, match="saved by an old version of datasets"):
        Arrow(0, path=tmp_path / "a")
    state.write_text("{")
    with pytest.raises(UserError, match=r"state.json: not JSON"):
        Arrow(0, path=tmp_path / "a")
