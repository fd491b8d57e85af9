"""One class for every tokenizer, around a `tokenizers` one; `save` writes a folder that transformers loads as it is.

How each kind is made is in `tokenizer_kinds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of, write_json
from ostinato.data.chat_templates import TURN_END
from ostinato.data.tokenizer_files import read_settings

if TYPE_CHECKING:
    import tokenizers

TURN_ENDS = (TURN_END, "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>")
"""Special tokens that end a turn in common chat templates; those a vocabulary holds end its completions too."""


class Tokenizer:
    """Text to ids and back, and what the special ids are. Safe to use from several threads.

    `eos` ends a document; `ends` are further tokens that end a turn or a document (known turn ends are found by name).
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        ends: Sequence[str] = (),
        chat_template: str | None = None,
    ) -> None:
        self._backend = backend
        self.special_tokens = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
        self.chat_template = chat_template
        self.bos_id, self.eos_id, self.pad_id = self._id(bos), self._id(eos), self._id(pad)
        found = [eos, *ends, *(name for name in TURN_ENDS if name in self._special_names())]
        self.eos_ids: tuple[int, ...] = tuple(dict.fromkeys(self._known(name) for name in found if name is not None))

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """xxh3-128 of all that decides ids and templates."""
        return hash_of({"tokenizer": self._backend.to_str(), **self._config()})

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of `text`; nothing is added to it. With `special` off, text that spells a special token stays text."""
        try:
            return self._pick(special).encode(text, add_special_tokens=False).ids
        except Exception as error:
            raise self._unknown([text], error) from error

    def encode_batch(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """`encode` of each, on all cores."""
        try:
            encodings = self._pick(special).encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:
            raise self._unknown(texts, error) from error
        return [encoding.ids for encoding in encodings]

    def encode_with_offsets(self, text: str, *, special: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters of `text` it is, as [start, end); parts of one character share it."""
        try:
            encoding = self._pick(special).encode(text, add_special_tokens=False)
        except Exception as error:
            raise self._unknown([text], error) from error
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int] | np.ndarray, skip_special: bool = False) -> str:
        """Text of `ids`. Bytes that are no UTF-8 (a character cut in two) become U+FFFD."""
        return self._backend.decode(np.asarray(ids, dtype=np.int64).tolist(), skip_special_tokens=skip_special)

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether tokens are strings of bytes, one character of the vocabulary's alphabet for each."""
        return "ByteLevel" in repr(self._backend.decoder) or "ByteLevel" in repr(self._backend.pre_tokenizer)

    @cached_property
    def is_character_level(self) -> bool:
        """Whether each token is one character."""
        return type(self._backend.model).__name__ == "WordLevel" and "Fuse" in repr(self._backend.decoder)

    def token_bytes(self) -> np.ndarray:
        """(V,) int64: UTF-8 bytes of text each id stands for; special tokens 0.

        For byte- and character-level tokenizers the sum over a text's ids is its length in bytes; for others (which may
        normalise, or put a space in front) it is an estimate.
        """
        sizes = np.zeros(self.vocab_size, dtype=np.int64)
        for token, index in self._backend.get_vocab(with_added_tokens=False).items():
            sizes[index] = len(token) if self.is_byte_level else _text_bytes(token)
        for index, added in self._backend.get_added_tokens_decoder().items():
            sizes[index] = 0 if added.special else len(added.content.encode())
        return sizes

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; `load` and transformers' AutoTokenizer read them."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True), encoding="utf-8")
        settings = {name: value for name, value in self._config().items() if value is not None}
        defaults = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        write_json(folder / "tokenizer_config.json", {**defaults, **settings}, durable=False)

    @staticmethod
    def load(path: Path) -> Tokenizer:
        """From a tokenizer.json, or a folder with one (and tokenizer_config.json, chat_template.jinja)."""
        import tokenizers

        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"{file}: no such file. Give a tokenizer.json, or a folder that holds one.")
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:
            raise UserError(f"{file}: not a tokenizer.json that `tokenizers` can read: {error}") from error
        return Tokenizer(backend, **read_settings(path) if path.is_dir() else {})

    def with_chat_template(self, template: str) -> Tokenizer:
        """The same tokenizer with another chat template."""
        return Tokenizer(self._backend, **{**self._arguments(), "chat_template": template})

    def extended(self, tokens: Sequence[str], **names: str | None) -> Tokenizer:
        """With `tokens` as special tokens (new ones get the next ids) and `names` (bos, eos, pad) set anew."""
        from tokenizers import AddedToken

        backend = type(self._backend).from_str(self._backend.to_str())
        backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens])
        return Tokenizer(backend, **{**self._arguments(), **names})

    def token(self, index: int) -> str | None:
        """The vocabulary's spelling of an id; None where it has none."""
        return self._backend.id_to_token(int(index))

    def token_id(self, token: str) -> int | None:
        """The id of a token by its spelling; None where there is none."""
        return self._backend.token_to_id(token)

    def _arguments(self) -> dict[str, Any]:
        names = {name.removesuffix("_token"): token for name, token in self.special_tokens.items()}
        return {**names, "ends": self._config()["end_tokens"], "chat_template": self.chat_template}

    def _config(self) -> dict[str, Any]:
        ends = [self._backend.id_to_token(index) for index in self.eos_ids]
        return {**self.special_tokens, "end_tokens": ends, "chat_template": self.chat_template}

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self._known(token)

    def _known(self, token: str) -> int:
        index = self._backend.token_to_id(token)
        if index is None:
            raise UserError(f"special token {token!r} is not in the tokenizer's vocabulary. Name one that is.")
        return index

    def _special_names(self) -> set[str]:
        return {added.content for added in self._backend.get_added_tokens_decoder().values() if added.special}

    def _pick(self, special: bool) -> tokenizers.Tokenizer:
        return self._backend if special else self._ordinary

    @cached_property
    def _ordinary(self) -> tokenizers.Tokenizer:
        copy = type(self._backend).from_str(self._backend.to_str())
        copy.encode_special_tokens = True
        return copy

    def _unknown(self, texts: Sequence[str], error: Exception) -> Exception:
        """The error of a character tokenizer that met a new one, said clearly; any other as it is."""
        if not self.is_character_level or not (unknown := set("".join(texts)) - set(self._backend.get_vocab())):
            return error
        names = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in sorted(unknown)[:5])
        return UserError(
            f"not in this character tokenizer's vocabulary: {names}. It holds its training data's characters only: "
            "train on data that has them, or use tokenizer.name: byte."
        )


def _text_bytes(token: str) -> int:
    """UTF-8 length of a SentencePiece-like token: `▁` is a space, `<0x0A>` one byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    return len(token.replace("\u2581", " ").encode())
