"""Rows as ids and a mask of what is trained on, decided by position in the text, never by comparing ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ostinato.core.errors import UserError
from ostinato.data.chat import ChatTemplate, Span, check_nothing_lost
from ostinato.data.rows import Conversation, PromptResponse, RowError, read_row
from ostinato.data.source import Row
from ostinato.data.tokenizer import Tokenizer

TrainOn = Literal["assistant", "last_assistant", "all"]
REASONING_LEFT_OUT = "reasoning left out by the chat template"


@dataclass(frozen=True)
class TrainedTokens:
    """One sample: ids (L,) and which of them are trained on (L,) bool; the first never is, for nothing predicts it."""

    ids: np.ndarray
    trained: np.ndarray


@dataclass(frozen=True)
class Encoded(TrainedTokens):
    """A row's sample, and what should be said about it."""

    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """A text that is encoded by itself, and the spans of it that are trained on; None: all of it."""

    text: str
    spans: list[Span] | None


@dataclass(frozen=True)
class _Draft:
    """A row before encoding. A framed one gets the tokens that begin and end a document, where it lacks them."""

    pieces: list[_Piece]
    framed: bool
    remarks: list[str] = field(default_factory=list)


class RowEncoder:
    """Encodes rows of any kind with one tokenizer, its chat template, and `train_on`."""

    def __init__(self, tokenizer: Tokenizer, train_on: TrainOn = "assistant") -> None:
        self._tokenizer, self._train_on = tokenizer, train_on
        source = tokenizer.chat_template
        self._template = None if source is None else ChatTemplate(source, tokenizer.special_tokens)
        self._edges = TokenEdges(tokenizer)

    def encode(self, rows: Sequence[Row]) -> list[Encoded | RowError]:
        """Each row's sample, or why it has none. Texts are encoded together, on all cores."""
        drafts = [self._draft_or_error(row) for row in rows]
        texts = [piece.text for draft in drafts if isinstance(draft, _Draft) for piece in draft.pieces]
        try:
            ids = iter(self._tokenizer.encode_batch(texts))
        except UserError as error:
            if len(rows) > 1:  # one by one, to learn which row it is
                return [encoded for row in rows for encoded in self.encode([row])]
            return [RowError(str(error))]
        return [
            self._assemble_or_error(draft, [next(ids) for _ in draft.pieces]) if isinstance(draft, _Draft) else draft
            for draft in drafts
        ]

    def _assemble_or_error(self, draft: _Draft, ids: list[list[int]]) -> Encoded | RowError:
        try:
            return self._assemble(draft, ids)
        except RowError as error:
            return error

    def _draft_or_error(self, row: Row) -> _Draft | RowError:
        try:
            return self._draft(row)
        except RowError as error:
            return error

    def _draft(self, row: Row) -> _Draft:
        shape = read_row(row)
        if isinstance(shape, PromptResponse):
            if self._template is None:
                before = f"{shape.system}\n\n" if shape.system else ""
                prompt = _Piece(before + shape.prompt, None if self._train_on == "all" else [])
                return _Draft([prompt, _Piece(shape.response, None)], framed=True)
            shape = shape.conversation()
        if isinstance(shape, Conversation):
            return self._chat(shape)
        return _Draft([_Piece(shape.text, None)], framed=True)

    def _chat(self, chat: Conversation) -> _Draft:
        if self._template is None:
            raise RowError("it holds messages, and the tokenizer has no chat template. Set tokenizer.chat_template.")
        if self._train_on == "all":
            text, spans = self._template.render(chat.messages, chat.tools).text, None
        else:
            speaking = [number for number, message in enumerate(chat.messages) if message["role"] == "assistant"]
            chosen = speaking[-1:] if self._train_on == "last_assistant" else speaking
            wanted = [number for number in chosen if number not in chat.context]
            text, spans = self._template.spans(chat.messages, wanted, chat.tools)
        remarks = [REASONING_LEFT_OUT] if check_nothing_lost(chat.messages, text) else []
        return _Draft([_Piece(text, spans)], framed=False, remarks=remarks)

    def _assemble(self, draft: _Draft, ids: list[list[int]]) -> Encoded:
        parts = [
            self._masked(piece, np.array(own, dtype=np.int64)) for piece, own in zip(draft.pieces, ids, strict=True)
        ]
        whole = np.concatenate([part.ids for part in parts])
        trained = np.concatenate([part.trained for part in parts])
        if draft.framed:
            whole, trained = self._framed(whole, trained)
        bos = self._tokenizer.bos_id
        if bos is not None and len(whole) > 1 and whole[0] == whole[1] == bos:
            raise RowError(
                f"it begins with {self._tokenizer.token(bos)} twice. Leave it out of the row or the template."
            )
        trained[:1] = False
        return Encoded(whole, trained, draft.remarks)

    def _framed(self, ids: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bos, eos, ends = self._tokenizer.bos_id, self._tokenizer.eos_id, self._tokenizer.eos_ids
        if bos is not None and bos not in ends and bos not in ids[:1]:
            ids, trained = np.concatenate([[bos], ids]), np.concatenate([[False], trained])
        if eos is not None and not (len(ids) and int(ids[-1]) in ends):
            ids, trained = np.concatenate([ids, [eos]]), np.concatenate([trained, [True]])
        return ids, trained

    def _masked(self, piece: _Piece, ids: np.ndarray) -> TrainedTokens:
        if piece.spans is None:
            return TrainedTokens(ids, np.ones(len(ids), dtype=bool))
        trained = np.zeros(len(ids), dtype=bool)
        for first, behind in self._edges.tokens_of(piece.text, ids, piece.spans):
            self._check_stop(ids[first:behind])
            trained[first:behind] = True
        return TrainedTokens(ids, trained)

    def _check_stop(self, answer: np.ndarray) -> None:
        ends = self._tokenizer.eos_ids
        if len(answer) and int(answer[-1]) in ends:
            return
        names = ", ".join(str(self._tokenizer.token(end)) for end in ends) or "none"
        tail = self._tokenizer.decode(answer[-8:].tolist())
        raise RowError(
            f"the trained part of an answer ends with {tail!r}, not with a token that ends a turn (this tokenizer's: "
            f"{names}); a model so trained never stops. Put the stop token inside the template's "
            "{% generation %} block, and make sure the tokenizer has it (tokenizer.added_tokens)."
        )


class TokenEdges:
    """Where in its text each token lies.

    Byte- and character-level tokenizers give a text back byte by byte, so adding up sizes is exact (the offsets of the
    `tokenizers` library are not: some processors trim white space). All others: the library's offsets.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = tokenizer.token_bytes()
        for index in np.flatnonzero(self._bytes == 0):  # special tokens, which stand for their own spelling here
            self._bytes[index] = len((tokenizer.token(int(index)) or "").encode())
        self._exact = tokenizer.is_byte_level or tokenizer.is_character_level

    def tokens_of(self, text: str, ids: np.ndarray, spans: Sequence[Span]) -> list[Span]:
        """For each span of characters, the range of tokens that lie in it."""
        if not spans:
            return []
        if self._exact:
            ends = np.cumsum(self._bytes[ids])
            if len(ids) and ends[-1] == len(text.encode()):
                to_bytes = (lambda at: at) if text.isascii() else (lambda at: len(text[:at].encode()))
                bounds = [(to_bytes(start), to_bytes(stop)) for start, stop in spans]
                return _ranges(ends - self._bytes[ids], ends, bounds)
        offsets = np.array(self._tokenizer.encode_with_offsets(text)[1], dtype=np.int64).reshape(-1, 2)
        return _ranges(offsets[:, 0], offsets[:, 1], spans)


def _ranges(starts: np.ndarray, ends: np.ndarray, spans: Sequence[Span]) -> list[Span]:
    first = np.searchsorted(starts, [start for start, _ in spans], side="left")
    behind = np.searchsorted(ends, [stop for _, stop in spans], side="right")
    return list(zip(first.tolist(), behind.tolist(), strict=True))
