"""Writing token shards: once per content, under a temporary name, then renamed, so that two writers never collide."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ostinato.core.manifest import hash_file, hash_of, write_json
from ostinato.data.fingerprint import made_once
from ostinato.data.tokens import FORMAT, INDEX, VERSION, TokenShards

SHARD_TOKENS = 1 << 28
LARGEST_UINT16_VOCABULARY = 1 << 16

log = logging.getLogger(__name__)


def prepared(
    cache: Path,
    identity: dict[str, Any],
    vocab_size: int,
    fill: Callable[[TokenWriter], dict[str, Any]],
    *,
    masked: bool = False,
) -> TokenShards:
    """The shards that `identity` (plain values: source, tokenizer, options) names, written now if the cache lacks them.

    `fill(writer)` adds every document and returns notes (plain values, such as a receipt) to keep with them.
    """
    folder = cache / "tokens" / hash_of({"version": VERSION, **identity})
    if not folder.is_dir():
        log.info("preparing %s", folder)
        with made_once(folder) as temporary, TokenWriter(temporary, vocab_size, masked=masked) as writer:
            writer.finish(identity, fill(writer))
    return TokenShards(folder)


class TokenWriter:
    """Appends documents to shards of about `shard_tokens` each, hashing as it writes."""

    def __init__(
        self, folder: Path, vocab_size: int, *, masked: bool = False, shard_tokens: int = SHARD_TOKENS
    ) -> None:
        self.dtype = np.dtype("<u2" if vocab_size <= LARGEST_UINT16_VOCABULARY else "<u4")
        self.tokens = self.documents = 0
        self._folder, self._masked, self._limit = folder, masked, shard_tokens
        self._shards: list[dict[str, Any]] = []
        self._starts: list[int] = []
        self._size = 0
        self._files: dict[str, _HashedFile] = {}

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, tokens: Sequence[int] | np.ndarray, mask: Sequence[int] | np.ndarray | None = None) -> None:
        """Append one document; `mask` has 1 where a token is trained on (required if the writer is `masked`)."""
        if (mask is not None) != self._masked or (mask is not None and len(mask) != len(tokens)):
            raise ValueError("a mask of the document's length belongs to a masked writer, none to any other")
        if len(tokens) == 0:
            raise ValueError("a document needs at least one token")
        self._starts.append(self._size)
        self._append("tokens", np.asarray(tokens, dtype=self.dtype))
        if mask is not None:
            self._append("mask", np.asarray(mask, dtype=np.uint8))
        self._size += len(tokens)
        if self._size >= self._limit:
            self._close_shard()

    def finish(self, identity: dict[str, Any], notes: dict[str, Any]) -> None:
        """Close the last shard and write the index: from here on the folder is complete."""
        self._close_shard()
        content = {"version": VERSION, "dtype": self.dtype.str, "shards": self._shards}
        totals = {"tokens": self.tokens, "documents": self.documents}
        index = {"format": FORMAT, **content, **totals, "fingerprint": hash_of(content)}
        write_json(self._folder / INDEX, {**index, "identity": identity, "notes": notes})

    def _append(self, kind: str, values: np.ndarray) -> None:
        if kind not in self._files:
            self._files[kind] = _HashedFile(self._folder / f"{kind}-{len(self._shards):05d}.bin")
        self._files[kind].write(values)

    def _close_shard(self) -> None:
        if not self._starts:
            return
        number = len(self._shards)
        entries = {}
        for file in self._files.values():
            entries[file.path.name] = file.finish()
        starts = self._folder / f"documents-{number:05d}.npy"
        np.save(starts, np.asarray(self._starts, dtype="<u8"))
        entries[starts.name] = {"bytes": starts.stat().st_size, "xxh3": hash_file(starts)}
        self._shards.append({"number": number, "tokens": self._size, "documents": len(self._starts), "files": entries})
        self.tokens += self._size
        self.documents += len(self._starts)
        self._size, self._starts, self._files = 0, [], {}


class _HashedFile:
    """A file that knows the hash of what was written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._digest = xxhash.xxh3_128()

    def write(self, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values).data.cast("B")
        self._file.write(data)
        self._digest.update(data)

    def finish(self) -> dict[str, Any]:
        """Make it durable; its entry in the index."""
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.close()
        return {"bytes": size, "xxh3": self._digest.hexdigest()}

    def close(self) -> None:
        self._file.close()
