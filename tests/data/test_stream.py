"""A stream: an order in which neighbours stay near, row groups tokenised as they are read, a bounded cache."""

import json
from itertools import islice

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from ostinato.cli.data import command
from ostinato.core.config import load_config
from ostinato.core.errors import OstinatoError, RefusedError, UserError
from ostinato.core.seeding import key
from ostinato.data.block_order import BlockOrder, Blocks
from ostinato.data.build import open_data
from ostinato.data.conversations import Conversations
from ostinato.data.formats import DataOptions
from ostinato.data.loader import Loader, evaluation_batches
from ostinato.data.parquet import Parquet
from ostinato.data.permutation import permute
from ostinato.data.stores import without_credentials
from ostinato.data.stream import Stream
from ostinato.data.tokenizer_kinds import byte
from ostinato.data.windows import Windows

SIZES = (4, 1, 7, 3, 5, 2, 6)


@pytest.mark.parametrize("together", [1, 2, 3, 7, 9])
def test_each_epoch_has_each_sample_once_and_neighbours_near(together):
    order, total = BlockOrder(Blocks(SIZES, together), 5, "web"), sum(SIZES)
    block_of = np.repeat(np.arange(len(SIZES)), SIZES)
    seen = []
    for epoch in range(3):
        indices = order.indices(epoch, np.arange(total))
        assert sorted(indices) == list(range(total))
        blocks = permute(np.arange(len(SIZES)), len(SIZES), key(5, "blocks", "web", epoch))
        stretches = [blocks[at : at + together].tolist() for at in range(0, len(SIZES), together)]
        # one stretch after the other
        sizes = [sum(SIZES[block] for block in stretch) for stretch in stretches]
        for stretch, part in zip(stretches, np.split(indices, np.cumsum(sizes)[:-1]), strict=True):
            assert set(block_of[part]) == set(stretch)
        # any turns, in any order, give the same
        turns = np.array([total - 1, 0, 3, 3])
        assert order.indices(epoch, turns).tolist() == indices[turns].tolist()
        seen.append(indices.tolist())
    assert seen[0] != seen[1] != seen[2]


CHATS = [{"prompt": f"{i} + {i}?", "response": "x" * (i % 5) + str(2 * i)} for i in range(60)]
TEXTS = [{"text": f"document {i} " + "abc " * (i % 9)} for i in range(60)]


def write(folder, rows, group=7):
    folder.mkdir(exist_ok=True)
    for name, part in (("a", rows[:25]), ("b", rows[25:])):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), folder / f"{name}.parquet", row_group_size=group)
    return folder


@pytest.fixture
def opened(tmp_path):
    """Opens a config's data as another process would, with nothing kept in memory."""
    write(tmp_path / "chats", CHATS)
    write(tmp_path / "texts", TEXTS)

    def open_stream(form=Conversations, *overrides, **stream):
        folder = tmp_path / ("texts" if form is Windows else "chats")
        train = {"name": "stream", "path": str(folder), "shuffle_groups": 3, **stream}
        config = {"data": {"train": train, "sequence_length": 32}, "training": {"batch_size": 4}}
        (tmp_path / "c.yaml").write_text(json.dumps(config))
        return open_data(load_config(tmp_path / "c.yaml", list(overrides)), form)

    return open_stream


def steps(data, first, count, **options):
    loader = Loader(data.plan, data.train, data.format, micro_batch_size=1, **options)
    try:
        return list(islice(loader.steps(first), count))
    finally:
        loader.close()


def content(step):
    return [batch.tokens.tolist() + batch.labels.tolist() for batch in step.micro_batches]


def test_rows_are_those_of_the_files(tmp_path):
    folder = write(tmp_path / "p", CHATS)
    stream, files = Stream(0, path=str(folder)), Parquet(0, path=folder)
    assert [stream[index] for index in range(60)] == CHATS
    assert [stream.place(index) for index in (0, 24, 25, 59)] == [files.place(index) for index in (0, 24, 25, 59)]
    named = Stream(0, path=str(folder / "b*.parquet"), columns={"question": "prompt"})
    assert len(named) == 35 and named[0] == {"question": "25 + 25?"}
    with pytest.raises(UserError, match=r"b.parquet: no column 'x'; there are prompt, response. Row 1: .*25 \+ 25"):
        Stream(0, path=str(folder / "b*.parquet"), columns={"question": "x"})
    form = Conversations(DataOptions(byte(), sequence_length=64, cache=tmp_path / "cache"))
    streamed, prepared = form.prepare(stream, "train"), form.prepare(files, "train")
    assert len(streamed) == len(prepared) == 60
    for index in range(60):
        assert streamed[index].ids.tolist() == prepared[index].ids.tolist()
        assert streamed[index].trained.tolist() == prepared[index].trained.tolist()
        assert streamed.length(index) == prepared.length(index) and streamed.place(index) == prepared.place(index)
    assert "rows are prompt and response, tokenised as they are read, from" in streamed.receipt.render()


@pytest.mark.parametrize("form", [Conversations, Windows])
def test_a_step_is_the_same_whenever_wherever_and_whatever_the_cache_holds(opened, cache, form):
    whole = steps(opened(form), 1, 40)  # more than two epochs
    (folder,) = (cache / "streamed").glob("*/tokens")
    sizes = [sum(file.stat().st_size for file in one.iterdir()) for one in folder.iterdir()]
    assert len(sizes) == 9  # 25 rows and 35 rows in groups of 7
    for file in folder.iterdir():
        for inner in file.iterdir():
            inner.unlink()
        file.rmdir()
    limit = sum(sorted(sizes)[-2:])
    small = opened(form, cache_gib=limit / 2**30)
    resumed = steps(small, 18, 23, workers=2, prefetch=3)
    kept = [sum(file.stat().st_size for file in one.iterdir()) for one in folder.iterdir()]
    assert 0 < sum(kept) <= limit
    assert [one.data for one in resumed] == [one.data for one in whole[17:]]
    assert [content(one) for one in resumed] == [content(one) for one in whole[17:]]
    ranks = [steps(opened(form), 30, 3, rank=rank, world_size=2) for rank in (0, 1)]
    for rank in ranks:
        for one, alone in zip(rank, whole[29:], strict=False):
            own = [number for number in one.indices if number < one.count]
            assert one.data == alone.data and one.count == alone.count
            assert content(one)[: len(own)] == [content(alone)[number] for number in own]


def test_windows_are_the_tokens_of_their_group(opened):
    data = opened(Windows)
    samples, tokenizer = data.train["train"], data.tokenizer
    ends = [*range(7, 25, 7), 25, *range(32, 60, 7), 60]
    groups = list(zip([0, *ends[:-1]], ends, strict=True))
    index = 0
    for (first, last), size in zip(groups, samples.sizes, strict=True):
        tokens = [token for row in TEXTS[first:last] for token in [*tokenizer.encode(row["text"]), tokenizer.eos_id]]
        for window in range(size):
            expected = tokens[window * 32 : window * 32 + 33]
            found = samples[index].tokens.tolist()
            assert found == (expected if len(expected) > 1 else [0])
            assert samples.length(index) == max(0, len(expected) - 1)
            index += 1
    assert index == len(samples)
    assert samples.place(0).endswith("a.parquet, row group 0, window 1")
    trained = sum(batch.counts()["tokens"] for batch in evaluation_batches(samples, data.format, 3))
    assert trained > 0.8 * sum(len(row["text"]) for row in TEXTS)


def test_a_dropped_row_leaves_its_place_empty(tmp_path):
    rows = [dict(row) for row in CHATS]
    rows[9] = {"prompt": "long", "response": "y" * 99}
    form = Conversations(DataOptions(byte(), sequence_length=64, cache=tmp_path / "cache", overlong="drop"))
    samples = form.prepare(Stream(0, path=str(write(tmp_path / "p", rows))), "train")
    assert samples[9].ids.tolist() == [0] and not samples[9].trained.any()
    kept = [index for index in range(60) if index != 9]
    texts = [form.options.tokenizer.decode(samples[index].ids.tolist()) for index in kept]
    assert all(CHATS[index]["prompt"] in text for index, text in zip(kept, texts, strict=True))
    with pytest.raises(IndexError):
        samples[60]


def test_what_cannot_be_trained_on_is_named_when_it_is_read(tmp_path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    rows = [{"messages": turns[:1] if number == 30 else turns} for number in range(60)]
    stream = Stream(0, path=str(write(tmp_path / "p", rows)))
    form = Conversations(DataOptions(byte(), sequence_length=64, cache=tmp_path / "cache"))
    samples = form.prepare(stream, "train")
    assert samples[24].trained.any() and samples[32].trained.any()
    with pytest.raises(UserError, match=r"b.parquet, row 6: nothing of its \d+ tokens is trained on"):
        samples[31]
    with pytest.raises(UserError, match="validation_fraction: a stream has no end to hold out"):
        samples.split(0.1)


def test_what_is_no_stream(tmp_path, opened):
    with pytest.raises(UserError, match="data.packing: false reads documents whole"):
        opened(Windows, "data.packing=false")
    (tmp_path / "x.parquet").write_text("no parquet file")
    with pytest.raises(UserError, match=r"x.parquet: not a parquet file that can be read"):
        Stream(0, path=str(tmp_path / "x.parquet"))
    with pytest.raises(UserError, match="no such file or folder"):
        Stream(0, path="nowhere")
    with pytest.raises(UserError, match=r"nope://x: cannot be listed"):
        Stream(0, path="nope://x")
    assert without_credentials("s3://key:secret@bucket/x") == "s3://bucket/x"
    assert without_credentials("hf://datasets/org/x@v1/a") == "hf://datasets/org/x@v1/a"
    with pytest.raises(ValueError, match="shuffle_groups: 0"):
        Stream(0, path="nowhere", shuffle_groups=0)


def test_a_store_of_fsspec(tmp_path):
    write(tmp_path / "p", CHATS)
    store = fsspec.filesystem("memory")
    for name in ("a", "b"):
        store.pipe(f"/web/{name}.parquet", (tmp_path / "p" / f"{name}.parquet").read_bytes())
    for path in ("memory://web", "memory://web/*.parquet"):
        stream = Stream(0, path=path)
        assert [stream[index] for index in range(60)] == CHATS and stream.origin == path
    assert stream.fingerprint == Stream(0, path=str(tmp_path / "p")).fingerprint  # wherever it lies
    store.pipe("/web/b.parquet", b"gone bad")
    with pytest.raises(OstinatoError, match=r"/web/b.parquet: row group 2 cannot be read: ArrowInvalid: .* A resume"):
        stream[40]
    store.pipe("/web/b.parquet", store.cat("/web/a.parquet"))
    with pytest.raises(RefusedError, match=r"/web/b.parquet: is not the file that it was at the start"):
        stream[40]
    with pytest.raises(UserError, match="no parquet file there"):
        Stream(0, path="memory://web/*.csv")


def test_show(tmp_path, opened):
    opened()
    result = CliRunner().invoke(command, ["show", str(tmp_path / "c.yaml"), "-o", "algorithm.name=sft", "--step", "9"])
    assert result.exit_code == 0, result.output
    assert "rows of train are prompt and response, tokenised as they are read" in result.stdout
