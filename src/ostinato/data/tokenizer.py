"""One class for every tokenizer, around a `tokenizers` one; how each kind is made is in `tokenizer_kinds.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.data.chat import ChatTemplate
from ostinato.data.chat_templates import TURN_END
from ostinato.data.token_sizes import token_sizes
from ostinato.data.tokenizer_files import read_tokenizer, write_tokenizer

if TYPE_CHECKING:
    import tokenizers

TURN_ENDS = (TURN_END, "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>")
"""Special tokens that end a turn in common chat templates; those a vocabulary holds end its completions too."""


class Tokenizer:
    """Text to ids and back, and what the special ids are. Safe to use from several threads.

    `eos` ends a document; `ends` are further tokens that end a turn or a document (known turn ends are found by name,
    the chat template's by rendering it). `named` are further tokens by the name that a template knows them by,
    `other_templates` those beside the chat template (`tool_use` is taken where there are tools), `template_options`
    what templates are given beside the messages, `origin` what was fetched: hub:ORG/NAME@COMMIT.
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
        named: Mapping[str, str] | None = None,
        other_templates: Mapping[str, str] | None = None,
        template_options: Mapping[str, Any] | None = None,
        origin: str | None = None,
    ) -> None:
        self._backend, self._ends, self.origin = backend, tuple(ends), origin
        self.special_tokens = {"bos_token": bos, "eos_token": eos, "pad_token": pad, **(named or {})}
        self.chat_template, self.other_templates = chat_template, dict(other_templates or {})
        self.template_options = dict(template_options or {})
        self.bos_id, self.eos_id, self.pad_id = self._id(bos), self._id(eos), self._id(pad)

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """All ids that end a document or an answer, that of `eos` first."""
        special = self._special_names()
        found = [self.special_tokens["eos_token"], *self._ends, *(name for name in TURN_ENDS if name in special)]
        found.append(self.chat.turn_end(special) if self.chat is not None else None)
        return tuple(dict.fromkeys(self._known(name) for name in found if name is not None))

    @cached_property
    def chat(self) -> ChatTemplate | None:
        """The chat template, ready to render; None without one. Raises UserError where it cannot be read."""
        if self.chat_template is None:
            return None
        tools = self.other_templates.get("tool_use")
        return ChatTemplate(self.chat_template, self.special_tokens, self.template_options, for_tools=tools)

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
        return self._encoded([text], special)[0].ids

    def encode_batch(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """`encode` of each, on all cores."""
        return [encoding.ids for encoding in self._encoded(texts, special)]

    def encode_with_offsets(self, text: str, *, special: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters of `text` it is, as [start, end); parts of one character share it."""
        (encoding,) = self._encoded([text], special)
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
        """(V,) int64: bytes of text each id stands for; exact sums for byte and character level, else an estimate."""
        return token_sizes(self._backend, self.vocab_size, byte_level=self.is_byte_level)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; `load` and transformers' AutoTokenizer read them."""
        write_tokenizer(folder, self._backend, self._config())

    @staticmethod
    def load(path: Path) -> Tokenizer:
        """From a file or a folder of Hugging Face's kinds (`tokenizer_files.py`). Raises UserError."""
        backend, arguments = read_tokenizer(path)
        return Tokenizer(backend, **arguments)

    def with_chat_template(self, template: str | None = None, options: Mapping[str, Any] | None = None) -> Tokenizer:
        """The same tokenizer with another chat template (instead of all it has), or with other options for it."""
        arguments = self._arguments()
        if template is not None:
            arguments |= {"chat_template": template, "other_templates": {}}
        given = {name: str(value) if isinstance(value, date) else value for name, value in (options or {}).items()}
        return Tokenizer(self._backend, **arguments | {"template_options": {**self.template_options, **given}})

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
        named = dict(self.special_tokens)
        return {
            **{kind: named.pop(f"{kind}_token") for kind in ("bos", "eos", "pad")},
            "ends": self._ends,
            "chat_template": self.chat_template,
            "named": named,
            "other_templates": self.other_templates,
            "template_options": self.template_options,
            "origin": self.origin,
        }

    def _config(self) -> dict[str, Any]:
        ends = [self._backend.id_to_token(index) for index in self.eos_ids]
        texts = {"other_templates": self.other_templates or None, "template_options": self.template_options or None}
        more = {name: value for name, value in texts.items() if value is not None}
        return {**self.special_tokens, "end_tokens": ends, "chat_template": self.chat_template, **more}

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self._known(token)

    def _known(self, token: str) -> int:
        index = self._backend.token_to_id(token)
        if index is None:
            raise UserError(f"special token {token!r} is not in the tokenizer's vocabulary. Name one that is.")
        return index

    def _special_names(self) -> set[str]:
        return {added.content for added in self._backend.get_added_tokens_decoder().values() if added.special}

    def _encoded(self, texts: Sequence[str], special: bool) -> list[tokenizers.Encoding]:
        backend = self._backend if special else self._ordinary
        try:
            if len(texts) == 1:  # only this way gives offsets
                return [backend.encode(texts[0], add_special_tokens=False)]
            return backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:
            raise self._unknown(texts, error) from error

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
