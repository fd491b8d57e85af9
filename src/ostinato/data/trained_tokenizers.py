"""Tokenizers made from the training data, made once: kept in the cache by what they were made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ostinato.core.manifest import hash_of
from ostinato.core.signatures import thaw
from ostinato.data.fingerprint import made_once
from ostinato.data.source import Source
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import build_tokenizer

TRAINED = ("character", "bpe")
NOT_TEXT = {"role", "from", "name", "type", "id"}
"""Keys whose values say what a text is, and are none."""


def open_tokenizer(node: Any, sources: Mapping[str, Source], cache: Path) -> Tokenizer:
    """The tokenizer of a config's `tokenizer` section, trained on `sources` if it is of such a kind."""

    def texts() -> Iterator[str]:
        for name in sorted(sources):
            for index in range(len(sources[name])):
                yield from strings(sources[name][index])

    if node.name not in TRAINED:
        return build_tokenizer(node, texts)
    import tokenizers

    contents = {name: source.fingerprint for name, source in sources.items()}
    asked = [node.vocab_size, node.added_tokens, node.chat_template]
    if node.template_options:
        asked.append(repr(thaw(node.template_options)))
    made_of = [tokenizers.__version__, node.name, *asked, contents]
    folder = cache / "tokenizers" / hash_of(made_of)
    if not folder.is_dir():
        tokenizer = build_tokenizer(node, texts)
        with made_once(folder) as temporary:
            tokenizer.save(temporary)
    return Tokenizer.load(folder)


def strings(value: Any) -> Iterator[str]:
    """All text of a row, in order: of `text` or `prompt`, of the messages of a chat, but not the roles' names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if name not in NOT_TEXT:
                yield from strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from strings(part)
