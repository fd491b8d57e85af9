"""A `tokenizers` tokenizer from the vocabulary files that came before tokenizer.json: sentencepiece, GPT-2's pair.

Ids are those of transformers' conversions of the same files, which the tests compare with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import UserError
from ostinato.data.sentencepiece_files import (
    CONTROL,
    UNIGRAM,
    USER_DEFINED,
    SentencePieceModel,
    read_sentencepiece,
)

if TYPE_CHECKING:
    import tokenizers

SPACE = "\u2581"
"""What stands for a space in sentencepiece's vocabularies."""
WORDS = {
    "GPT2Tokenizer": None,  # the pattern of the library's ByteLevel
    "Qwen2Tokenizer": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""How text is split before byte-level BPE, by the class that tokenizer_config.json names."""


def from_sentencepiece(file: Path, config: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The tokenizer of a `tokenizer.model`, and the special tokens that it names itself.

    `config` is tokenizer_config.json: `add_prefix_space` overrides the file; with `legacy` a space is put in front of
    what follows a special token too.
    """
    from tokenizers import AddedToken

    model = read_sentencepiece(file)
    prefix = config.get("add_prefix_space")
    prefix = model.add_dummy_prefix if prefix is None else bool(prefix)
    backend = _unigram(model, prefix) if model.algorithm == UNIGRAM else _bpe(model, prefix, bool(config.get("legacy")))
    added = [piece for piece in model.pieces if piece.kind in (CONTROL, USER_DEFINED)]
    backend.add_tokens([AddedToken(p.text, normalized=False, special=p.kind == CONTROL) for p in added])
    ids = {"bos": model.bos_id, "eos": model.eos_id, "pad": model.pad_id, "unk": model.unk_id}
    spelt = {f"{kind}_token": model.spelling(index) for kind, index in ids.items()}
    return backend, {name: token for name, token in spelt.items() if token is not None}


def from_vocabulary_and_merges(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Byte-level BPE from vocab.json and merges.txt, split into words as GPT-2's or Qwen2's."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE

    kind = str(config.get("tokenizer_class") or "GPT2Tokenizer").removesuffix("Fast")
    if kind not in WORDS:
        raise UserError(
            f"{folder}: vocab.json and merges.txt of a {kind}; how that splits words is not known here (known: "
            f"{', '.join(WORDS)}). Save it once with transformers' save_pretrained, which writes tokenizer.json."
        )
    try:
        vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
        lines = (folder / "merges.txt").read_text("utf-8").splitlines()
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(left, right) for left, right in pairs]
        backend = Backend(BPE(vocab=vocabulary, merges=merges))
    except Exception as error:  # the library raises plain Exception for a merge whose parts are no tokens
        raise UserError(f"{folder}: vocab.json and merges.txt cannot be used: {error}") from error
    prefix = bool(config.get("add_prefix_space", False))
    backend.decoder = decoders.ByteLevel()
    if (pattern := WORDS[kind]) is None:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        return backend
    backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    levels = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, levels])
    return backend


def _bpe(model: SentencePieceModel, prefix: bool, legacy: bool) -> tokenizers.Tokenizer:
    """Llama's and Mistral's kind (a space in front), or Gemma's (none)."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    backend = Backend(
        BPE(
            vocab=vocabulary,
            merges=_merges(vocabulary),
            unk_token=model.spelling(model.unk_id),
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    )
    if prefix:
        scheme = "always" if legacy else "first"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=False)
    else:
        backend.normalizer = normalizers.Replace(" ", SPACE)
    if model.charsmap:
        own = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([normalizers.Precompiled(model.charsmap), *own])
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", left=1)] if prefix else steps)
    return backend


def _unigram(model: SentencePieceModel, prefix: bool) -> tokenizers.Tokenizer:
    """T5's kind: the best split of each word by the sum of its pieces' scores."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import Unigram

    # Nine digits name a float32, and come back the same from JSON; more do not always.
    scored = [(piece.text, float(f"{piece.score:.9g}")) for piece in model.pieces]
    backend = Backend(Unigram(scored, unk_id=max(model.unk_id, 0), byte_fallback=model.byte_fallback))
    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.remove_extra_whitespaces:
        steps += [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), SPACE)]
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme)
    decoder = decoders.Metaspace(SPACE, prepend_scheme=scheme)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoder]) if model.byte_fallback else decoder
    return backend


def _merges(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two, in the order of the pieces: what their scores say in a BPE model."""
    merges = []
    for piece, index in vocabulary.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((index, len(left), len(right), left, right))
    return [(left, right) for *_, left, right in sorted(merges, key=lambda merge: merge[:3])]
