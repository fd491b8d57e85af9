"""Token shards: what is written is what is read, whole or not at all."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import Damaged
from ostinato.data.token_writer import TokenWriter, prepared
from ostinato.data.tokens import TokenShards

DOCUMENTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11]]
FLAT = list(range(1, 12))
STARTS = [0, 3, 4, 6, 10]


def write(folder: Path, documents=DOCUMENTS, *, masked=False, vocab_size=100, shard_tokens=1 << 20) -> TokenShards:
    folder.mkdir(parents=True, exist_ok=True)
    with TokenWriter(folder, vocab_size, masked=masked, shard_tokens=shard_tokens) as writer:
        for document in documents:
            writer.add(document, [token % 2 for token in document] if masked else None)
        writer.finish({"source": "x"}, {"rows": 5})
    return TokenShards(folder)


@pytest.mark.parametrize("shard_tokens", [1, 4, 6, 1 << 20])
def test_every_range_reads_as_the_documents_end_to_end(tmp_path, shard_tokens):
    shards = write(tmp_path, masked=True, shard_tokens=shard_tokens)
    assert (shards.total, shards.documents, shards.notes) == (11, 5, {"rows": 5})
    for start in range(12):
        for stop in range(start, 12):
            assert shards.read(start, stop).tolist() == FLAT[start:stop]
            assert shards.read_mask(start, stop).tolist() == [token % 2 for token in FLAT[start:stop]]
            assert shards.starts(start, stop).tolist() == [one for one in STARTS if start <= one < stop]
    assert [shards.document(i) for i in range(5)] == [(0, 3), (3, 4), (4, 6), (6, 10), (10, 11)]
    assert shards.lengths.tolist() == [3, 1, 2, 4, 1]
    shards.verify()


def test_files_are_as_specified(tmp_path):
    write(tmp_path, masked=True, shard_tokens=6)
    assert np.fromfile(tmp_path / "tokens-00000.bin", dtype="<u2").tolist() == [1, 2, 3, 4, 5, 6]
    assert np.fromfile(tmp_path / "tokens-00001.bin", dtype="<u2").tolist() == [7, 8, 9, 10, 11]
    starts = np.load(tmp_path / "documents-00001.npy")
    assert starts.dtype == np.uint64 and starts.tolist() == [0, 4]
    assert (tmp_path / "mask-00000.bin").read_bytes() == bytes([1, 0, 1, 0, 1, 0])
    index = json.loads((tmp_path / "index.json").read_text())
    assert (index["version"], index["dtype"], index["tokens"], index["documents"]) == (1, "<u2", 11, 5)


@pytest.mark.parametrize(("vocab_size", "bytes_each"), [(65_536, 2), (65_537, 4)])
def test_width_follows_the_vocabulary(tmp_path, vocab_size, bytes_each):
    shards = write(tmp_path, [[vocab_size - 1, 0]], vocab_size=vocab_size)
    assert shards.read(0, 2).tolist() == [vocab_size - 1, 0]
    assert (tmp_path / "tokens-00000.bin").stat().st_size == 2 * bytes_each


def test_the_fingerprint_is_of_the_content(tmp_path):
    first, again = write(tmp_path / "a"), write(tmp_path / "b")
    other = write(tmp_path / "c", [[1, 2], [3, 4], *DOCUMENTS[2:]])
    assert first.fingerprint == again.fingerprint != other.fingerprint  # same tokens, other documents


def test_a_cut_or_missing_file_is_refused_at_opening(tmp_path):
    write(tmp_path)
    tokens = tmp_path / "tokens-00000.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(RefusedError, match=r"tokens-00000.bin has 20 bytes instead of 22. Delete the folder"):
        TokenShards(tmp_path)
    tokens.unlink()
    with pytest.raises(RefusedError, match="tokens-00000.bin is missing"):
        TokenShards(tmp_path)


def test_a_flipped_bit_is_found_by_verify(tmp_path):
    shards = write(tmp_path)
    content = bytearray((tmp_path / "tokens-00000.bin").read_bytes())
    content[7] ^= 1
    (tmp_path / "tokens-00000.bin").write_bytes(content)
    with pytest.raises(Damaged, match="tokens-00000.bin does not match its hash"):
        shards.verify()


def test_mistakes_of_a_writer_are_refused(tmp_path):
    with TokenWriter(tmp_path, 100, masked=True) as writer:
        for tokens, mask in (([1], None), ([1, 2], [1]), ([], [])):
            with pytest.raises(ValueError, match="document"):
                writer.add(tokens, mask)


def test_prepared_once_and_named_by_its_identity(tmp_path):
    calls = []

    def fill(writer):
        calls.append(1)
        writer.add([1, 2, 3])
        return {}

    first = prepared(tmp_path, {"source": "a"}, 100, fill)
    assert prepared(tmp_path, {"source": "a"}, 100, fill).folder == first.folder
    assert prepared(tmp_path, {"source": "b"}, 100, fill).folder != first.folder
    assert len(calls) == 2


def test_a_failed_preparation_leaves_nothing(tmp_path):
    def fill(writer):
        writer.add([1, 2, 3])
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        prepared(tmp_path, {"source": "a"}, 100, fill)
    assert list((tmp_path / "tokens").iterdir()) == []


def test_several_processes_may_prepare_the_same_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [context.Process(target=prepare_slowly, args=(tmp_path, barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    folders = list((tmp_path / "tokens").iterdir())
    assert len(folders) == 1 and TokenShards(folders[0]).read(0, 3).tolist() == [1, 2, 3]


def prepare_slowly(cache: Path, barrier) -> None:
    def fill(writer):
        barrier.wait(timeout=30)  # all are at it
        writer.add([1, 2, 3])
        return {}

    assert prepared(cache, {"source": "a"}, 100, fill).total == 3
