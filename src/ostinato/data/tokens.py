"""Token shards: a prepared source as flat files of ids, read by memory map. Written by `token_writer.py`.

tokens-00000.bin      little-endian uint16, or uint32 where the vocabulary exceeds 65,536; no header
documents-00000.npy   uint64, where each document starts in its shard (documents never cross shards)
mask-00000.bin        uint8, 1 = trained on (only where a format needs it)
index.json            written last: dtype, identity, sizes and hashes of every file, fingerprint, notes
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import Damaged, hash_file

FORMAT = "ostinato-tokens"
VERSION = 1
INDEX = "index.json"


class TokenShards:
    """All tokens end to end, by position, and the documents they form. Opening checks sizes; reading maps lazily."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = self._read_index()
        shards = self.index["shards"]
        self.total: int = self.index["tokens"]
        self.documents: int = self.index["documents"]
        self.fingerprint: str = self.index["fingerprint"]
        self.notes: dict[str, Any] = self.index["notes"]
        self._token_bounds = np.cumsum([0, *(shard["tokens"] for shard in shards)])
        self._document_bounds = np.cumsum([0, *(shard["documents"] for shard in shards)])
        self._shards = [_Shard(folder, shard, np.dtype(self.index["dtype"])) for shard in shards]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Ids of positions [start, stop), a read-only view where one shard holds them all."""
        return self._gather("tokens", start, stop)

    def read_mask(self, start: int, stop: int) -> np.ndarray:
        """uint8 flags of positions [start, stop): 1 = trained on."""
        return self._gather("mask", start, stop)

    def document(self, index: int) -> tuple[int, int]:
        """[start, stop) of a document's tokens."""
        shard = self._shard_of(self._document_bounds, index)
        offset, own = int(self._token_bounds[shard]), self._shards[shard]
        local = index - int(self._document_bounds[shard])
        stop = int(own.starts[local + 1]) if local + 1 < len(own.starts) else own.size
        return offset + int(own.starts[local]), offset + stop

    def starts(self, start: int, stop: int) -> np.ndarray:
        """int64 positions in [start, stop) at which a document starts, ascending."""
        if stop <= start:
            return np.zeros(0, dtype=np.int64)
        first, last = self._shard_of(self._token_bounds, start), self._shard_of(self._token_bounds, stop - 1)
        found = []
        for shard in range(first, last + 1):
            offset, own = int(self._token_bounds[shard]), self._shards[shard].starts
            inside = np.array([max(start - offset, 0), max(stop - offset, 0)], dtype=np.uint64)
            low, high = own.searchsorted(inside)
            found.append(own[low:high].astype(np.int64) + offset)
        return found[0] if len(found) == 1 else np.concatenate(found)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(documents,) int64: tokens of each document."""
        parts = [np.diff(shard.starts.astype(np.int64), append=shard.size) for shard in self._shards]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def map(self) -> None:
        """Map every file now, so that it can be read even when the folder is taken away."""
        for shard in self._shards:
            shard.map()

    def verify(self) -> None:
        """Hash every byte; raises Damaged naming the first file that differs from the index."""
        for shard in self.index["shards"]:
            for name, entry in shard["files"].items():
                if hash_file(self.folder / name) != entry["xxh3"]:
                    raise Damaged(f"{self.folder / name} does not match its hash. {self._remedy}")

    @property
    def _remedy(self) -> str:
        return f"Delete the folder {self.folder}; it is prepared again at the next start."

    def _read_index(self) -> dict[str, Any]:
        path = self.folder / INDEX
        try:
            index = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise RefusedError(f"{path}: cannot be read: {error}. {self._remedy}") from error
        if index.get("format") != FORMAT or index.get("version") != VERSION:
            raise RefusedError(f"{path}: not {FORMAT} version {VERSION}. {self._remedy}")
        for shard in index["shards"]:
            for name, entry in shard["files"].items():
                size = (self.folder / name).stat().st_size if (self.folder / name).is_file() else None
                if size != entry["bytes"]:
                    found = "is missing" if size is None else f"has {size} bytes instead of {entry['bytes']}"
                    raise RefusedError(f"{self.folder / name} {found}. {self._remedy}")
        return index

    @staticmethod
    def _shard_of(bounds: np.ndarray, position: int) -> int:
        return int(bounds.searchsorted(position, side="right")) - 1

    def _gather(self, kind: str, start: int, stop: int) -> np.ndarray:
        if stop <= start:
            return np.zeros(0, dtype=np.uint8 if kind == "mask" else self.index["dtype"])
        first = self._shard_of(self._token_bounds, start) if len(self._shards) > 1 else 0
        if len(self._shards) == 1 or stop <= self._token_bounds[first + 1]:
            offset = int(self._token_bounds[first])
            return getattr(self._shards[first], kind)[start - offset : stop - offset]
        cut = int(self._token_bounds[first + 1])
        return np.concatenate([self._gather(kind, start, cut), self._gather(kind, cut, stop)])


class _Shard:
    """The files of one shard, mapped when first read."""

    def __init__(self, folder: Path, entry: dict[str, Any], dtype: np.dtype) -> None:
        self.size: int = entry["tokens"]
        self._folder, self._number, self._dtype = folder, entry["number"], dtype
        self._masked = any(name.startswith("mask") for name in entry["files"])

    def map(self) -> None:
        """Every file of it."""
        for name in ("tokens", "starts", *(["mask"] if self._masked else [])):
            getattr(self, name)

    @cached_property
    def tokens(self) -> np.ndarray:
        return self._map("tokens", self._dtype)

    @cached_property
    def mask(self) -> np.ndarray:
        return self._map("mask", np.dtype(np.uint8))

    @cached_property
    def starts(self) -> np.ndarray:
        return np.load(self._folder / f"documents-{self._number:05d}.npy", mmap_mode="r").view(np.ndarray)

    def _map(self, kind: str, dtype: np.dtype) -> np.ndarray:
        # A plain array over the map: slicing np.memmap itself costs microseconds each time.
        path = self._folder / f"{kind}-{self._number:05d}.bin"
        return np.memmap(path, dtype=dtype, mode="r", shape=(self.size,)).view(np.ndarray)
