"""Special and added tokens as settings name them, and how they come into a vocabulary that lacks them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import UserError

if TYPE_CHECKING:
    import tokenizers

KINDS = ("bos", "eos", "pad")


def special_tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    """bos, eos, pad, and the other tokens that templates may name: unk_token, image_token, ..."""
    named = {name: token for name, value in config.items() if name.endswith("_token") and (token := content_of(value))}
    extra = config.get("extra_special_tokens")
    named |= {name: content_of(value) for name, value in extra.items()} if isinstance(extra, dict) else {}
    return {**{kind: named.pop(f"{kind}_token", None) for kind in KINDS}, "named": named}


def content_of(token: Any) -> str | None:
    """Special tokens are written as a string or as a map with `content`."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) and token else None


def add_tokens(folder: Path, backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Add, as special, what the settings name and the vocabulary lacks; a stated id must be the one it gets."""
    stated = _stated(folder, config)
    known = {token.content: (index, _flags(token)) for index, token in backend.get_added_tokens_decoder().items()}
    for index, token in stated:
        if known.get(token.content) != (index, _flags(token)):
            backend.add_tokens([token])
            if (got := backend.token_to_id(token.content)) != index:
                raise UserError(
                    f"{folder}: the settings say that {token.content!r} has id {index}, the vocabulary gives it {got}. "
                    "The files belong to different tokenizers."
                )
    special = special_tokens(config)
    names = [*(special[kind] for kind in KINDS), *special["named"].values(), *_further(config)]
    own = {token.content for token in backend.get_added_tokens_decoder().values()}
    missing = [name for name in dict.fromkeys(names) if name and name not in own]
    backend.add_special_tokens([_token({"content": name, "normalized": False, "special": True}) for name in missing])


def _stated(folder: Path, config: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """(id, token) in the order of ids: `added_tokens_decoder`, else the older file added_tokens.json."""
    decoder = config.get("added_tokens_decoder")
    try:
        if decoder is not None:
            return sorted(((int(index), _token(token)) for index, token in decoder.items()), key=lambda pair: pair[0])
        special = {*_further(config), *(name for name in map(content_of, config.values()) if name)}
        pairs = []
        for name, index in read_map(folder / "added_tokens.json").items():
            plain = name not in special
            pairs.append((int(index), _token({"content": name, "normalized": plain, "special": not plain})))
        return sorted(pairs, key=lambda pair: pair[0])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{folder}: added tokens cannot be read: {error}") from None


def _token(values: Any) -> Any:
    from tokenizers import AddedToken

    flags = {name: bool(values[name]) for name in ("lstrip", "rstrip", "single_word", "normalized") if name in values}
    return AddedToken(values["content"], special=bool(values.get("special", False)), **flags)


def _flags(token: Any) -> tuple[bool, ...]:
    return (token.special, token.normalized, token.lstrip, token.rstrip, token.single_word)


def _further(config: Mapping[str, Any]) -> Iterator[str]:
    """Special tokens that have no name: lists under either key."""
    for key in ("extra_special_tokens", "additional_special_tokens"):
        values = config.get(key)
        if isinstance(values, list):
            yield from (name for name in map(content_of, values) if name)


def read_map(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: a map was expected, not a {type(values).__name__}.")
    return values
