"""Rows as ids and a mask of what is trained on, decided by position in the text, never by comparing ids."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ostinato.core.errors import UserError
from ostinato.data.chat import Span
from ostinato.data.lost_messages import check_nothing_lost
from ostinato.data.rows import Conversation, Message, PromptResponse, RowError, read_row
from ostinato.data.source import Row
from ostinato.data.token_edges import TokenEdges
from ostinato.data.tokenizer import Tokenizer

log = logging.getLogger(__name__)
TrainOn = Literal["assistant", "last_assistant", "all"]
SPELLS_SPECIAL = "a message spells a special token, which is read as that token"
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
        self._template = tokenizer.chat
        self._edges = TokenEdges(tokenizer)
        names = (tokenizer.token(int(index)) for index in np.flatnonzero(tokenizer.token_bytes() == 0))
        self._special = re.compile("|".join(re.escape(name) for name in names if name) or "(?!)")
        if not tokenizer.eos_ids:
            log.warning("no token ends an answer: the tokenizer has none (tokenizer.added_tokens: ['<|endoftext|>']).")
        # One token that both begins and ends documents (GPT-2) is not put in front.
        self._bos = None if tokenizer.bos_id in tokenizer.eos_ids else tokenizer.bos_id

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

    def prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        """What a model is given to answer: the ids that stand before the answer in training."""
        if self._template is not None:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            return self._tokenizer.encode(self._template.render(messages, add_generation_prompt=True).text)
        if not isinstance(prompt, str):
            raise RowError("messages are no prompt for a tokenizer without chat template. Set tokenizer.chat_template.")
        ids = self._tokenizer.encode(prompt)
        return [bos, *ids] if (bos := self._bos) is not None and ids[:1] != [bos] else ids

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
            ends = [token for index in self._tokenizer.eos_ids if (token := self._tokenizer.token(index))]
            text, spans = self._template.spans(chat.messages, wanted, chat.tools, ends)
        remarks = [REASONING_LEFT_OUT] if check_nothing_lost(chat.messages, text) else []
        if any(self._special.search(message["content"]) for message in chat.messages):
            remarks.append(SPELLS_SPECIAL)
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
        if not draft.framed and trained.any() and not np.isin(whole[trained], self._tokenizer.eos_ids).any():
            self._check_stop(whole[trained])
        return Encoded(whole, trained, draft.remarks)

    def _framed(self, ids: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bos, eos, ends = self._bos, self._tokenizer.eos_id, self._tokenizer.eos_ids
        if bos is not None and bos not in ids[:1]:
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
