"""How each kind of tokenizer is made: byte, character, bpe, pretrained. All are plain `tokenizers` tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import UserError
from ostinato.core.signatures import thaw
from ostinato.data.chat_templates import END_OF_TEXT, TEMPLATES, TURN_END, TURN_START
from ostinato.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

Texts = Callable[[], Iterable[str]]
SPECIALS = (END_OF_TEXT, TURN_START, TURN_END)
WHOLE_TEXT = r"[\s\S]"  # any character, line breaks too


def build_tokenizer(node: Any, texts: Texts) -> Tokenizer:
    """The tokenizer of a config's `tokenizer` section; `texts` gives all training text, for the kinds made from it."""
    if node.name == "pretrained":
        if node.path is None:
            raise UserError(
                "tokenizer.path: not set. Give a tokenizer.json or its folder, or use tokenizer.name: byte."
            )
        if str(node.path).startswith("hub:"):
            from ostinato.data.hub_tokenizer import from_hub  # which needs an extra

            return as_asked(from_hub(str(node.path)), node)
        return as_asked(Tokenizer.load(Path(node.path)), node)
    if node.name == "character":
        tokenizer = character(texts(), node.added_tokens)
    elif node.name == "bpe":
        tokenizer = bpe(texts(), node.vocab_size, node.added_tokens)
    else:
        tokenizer = byte(node.added_tokens)
    return as_asked(tokenizer, node)


def as_asked(tokenizer: Tokenizer, node: Any) -> Tokenizer:
    """A tokenizer with the tokens, the chat template and its options that a config's `tokenizer` section names."""
    ends = tokenizer.eos_id is None and END_OF_TEXT in node.added_tokens
    tokenizer = with_added_tokens(tokenizer, node.added_tokens, **({"eos": END_OF_TEXT} if ends else {}))
    if node.chat_template is None and not node.template_options:
        return tokenizer
    template = None if node.chat_template is None else read_template(node.chat_template)
    return tokenizer.with_chat_template(template, thaw(node.template_options))


def byte(added: Iterable[str] = ()) -> Tokenizer:
    """256 bytes, id = byte, then the special tokens: every text, exactly."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE

    alphabet = byte_alphabet()
    backend = Backend(BPE(vocab={alphabet[value]: value for value in range(256)}, merges=[]))
    return _with_chat(_byte_level(backend, use_regex=False), added)


def bpe(texts: Iterable[str], vocab_size: int, added: Iterable[str] = ()) -> Tokenizer:
    """Byte-level BPE (GPT-2's splitting into words) trained on `texts`; `vocab_size` counts special tokens too."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    specials = dict.fromkeys([*SPECIALS, *added])
    if vocab_size < 256 + len(specials):
        raise UserError(
            f"tokenizer.vocab_size: {vocab_size} is less than 256 bytes and {len(specials)} special tokens. "
            f"Set at least {256 + len(specials)}, or use tokenizer.name: byte."
        )
    backend = _byte_level(Backend(BPE()), use_regex=True)
    size = vocab_size - len(specials)
    trainer = BpeTrainer(vocab_size=size, initial_alphabet=sorted(ByteLevel.alphabet()), show_progress=False)
    backend.train_from_iterator(texts, trainer=trainer)
    return _with_chat(backend, added)


def character(texts: Iterable[str], added: Iterable[str] = ()) -> Tokenizer:
    """One id for each character of `texts`, in code point order; nothing else but `added`."""
    from tokenizers import Regex, decoders, pre_tokenizers
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordLevel

    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    if not characters:
        raise UserError("tokenizer.name: character needs text to take its characters from; data.train has none.")
    # No unknown token: a character never seen is an error, not a loss of text.
    backend = Backend(WordLevel(vocab={one: index for index, one in enumerate(sorted(characters))}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(WHOLE_TEXT), "isolated")
    backend.decoder = decoders.Fuse()
    eos = END_OF_TEXT if END_OF_TEXT in added else None
    return with_added_tokens(Tokenizer(backend), added, eos=eos, pad=eos)


def with_added_tokens(tokenizer: Tokenizer, added: Iterable[str], **names: str | None) -> Tokenizer:
    """The tokenizer with further special tokens, those it lacks at the end of the vocabulary."""
    tokens = list(added)
    return tokenizer.extended(tokens, **names) if tokens else tokenizer


def read_template(name: str) -> str:
    """A shipped chat template by name, or the text of a file."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    if not (file := Path(name)).is_file():
        raise UserError(
            f"tokenizer.chat_template: {name} is neither a file nor one of: {', '.join(sorted(TEMPLATES))}."
        )
    return file.read_text("utf-8")


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2): itself where it can be seen."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [value for value in range(256) if value not in shown]
    return [chr(value) if value in shown else chr(256 + hidden.index(value)) for value in range(256)]


def _byte_level(backend: tokenizers.Tokenizer, use_regex: bool) -> tokenizers.Tokenizer:
    from tokenizers import decoders, pre_tokenizers

    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    backend.decoder = decoders.ByteLevel()
    return backend


def _with_chat(backend: tokenizers.Tokenizer, added: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(backend, chat_template=TEMPLATES["chatml"])
    return with_added_tokens(tokenizer, dict.fromkeys([*SPECIALS, *added]), eos=END_OF_TEXT, pad=END_OF_TEXT)
