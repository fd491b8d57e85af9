"""A folder with a tokenizer as Hugging Face's tools have written it over the years: the tokenizer and its settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import UserError
from ostinato.core.manifest import write_json
from ostinato.data.added_tokens import add_tokens, content_of, read_map, special_tokens
from ostinato.data.vocabulary_files import from_sentencepiece, from_vocabulary_and_merges

if TYPE_CHECKING:
    import tokenizers

log = logging.getLogger(__name__)
FILES = "tokenizer.json, tokenizer.model (sentencepiece), or vocab.json with merges.txt"


def has_tokenizer(folder: Path) -> bool:
    """Whether one of the files is there."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def read_tokenizer(path: Path) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """The tokenizer of a file or folder, with all special tokens, and the arguments that Tokenizer has beside it."""
    if not path.is_dir():
        if path.suffix == ".model":
            backend, named = from_sentencepiece(path, {})
            add_tokens(path, backend, named)
            return backend, special_tokens(named)
        return _from_json(path), {}
    config = _config(path)
    if (path / "tokenizer.json").is_file():
        backend = _from_json(path / "tokenizer.json")
    elif (path / "tokenizer.model").is_file():
        backend, named = from_sentencepiece(path / "tokenizer.model", config)
        config = {**named, **config}
    elif (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        backend = from_vocabulary_and_merges(path, config)
    else:
        raise UserError(f"{path}: no tokenizer here. A folder needs {FILES}.")
    add_tokens(path, backend, config)
    _frame(backend, config)
    templates = _templates(path, config)
    return backend, {
        **special_tokens(config),
        "ends": [*config.get("end_tokens", ()), *_generation_ends(path, backend)],
        "chat_template": templates.pop("default", None),
        "other_templates": templates,
        "template_options": config.get("template_options", {}),
    }


def write_tokenizer(folder: Path, backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """tokenizer.json and tokenizer_config.json; `read_tokenizer` and transformers' AutoTokenizer read them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str(pretty=True), encoding="utf-8")
    settings = {name: value for name, value in config.items() if value is not None}
    if templates := settings.pop("other_templates", None):
        named = {"default": settings.get("chat_template"), **templates}
        settings["chat_template"] = [{"name": name, "template": text} for name, text in named.items() if text]
    defaults = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", {**defaults, **settings}, durable=False)


def _from_json(file: Path) -> tokenizers.Tokenizer:
    import tokenizers

    if not file.is_file():
        raise UserError(f"{file}: no such file. Give a tokenizer.json, or a folder with {FILES}.")
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library's own class is Exception
        raise UserError(f"{file}: not a tokenizer.json that `tokenizers` can read: {error}") from error
    backend.no_truncation()  # some files keep the cut and padding of their last use
    backend.no_padding()
    return backend


def _config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json; what is null there is not said."""
    files = (folder / "special_tokens_map.json", folder / "tokenizer_config.json")
    return {name: value for file in files for name, value in read_map(file).items() if value is not None}


def _frame(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Where tokenizer_config.json says so, what other programs put around a text; nothing here uses it."""
    from tokenizers import processors

    asked = [bool(config.get(f"add_{kind}_token")) for kind in ("bos", "eos")]
    tokens = [content_of(config.get(f"{kind}_token")) for kind in ("bos", "eos")]
    bos, eos = (token if wanted else None for wanted, token in zip(asked, tokens, strict=True))
    if backend.post_processor is None and (bos or eos):
        single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
        pair = [*single, *([f"{bos}:1"] if bos else []), "$B:1", *([f"{eos}:1"] if eos else [])]
        ids = [(token, backend.token_to_id(token)) for token in (bos, eos) if token]
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name, `default` first: files, else a string, a list of maps or a map in the settings."""
    files = [folder / "chat_template.jinja", *sorted((folder / "chat_templates").glob("*.jinja"))]
    files += sorted((folder / "additional_chat_templates").glob("*.jinja"))
    found = {"default" if file == files[0] else file.stem: file for file in files if file.is_file()}
    if found:
        return {name: file.read_text("utf-8") for name, file in found.items()}
    given = config.get("chat_template")
    try:
        if isinstance(given, list):
            given = {one["name"]: one["template"] for one in given}
        templates = {"default": given} if isinstance(given, str) else dict(given or {})
    except (TypeError, ValueError, KeyError):
        templates = {"default": None}
    if not all(isinstance(text, str) for text in templates.values()):
        raise UserError(f"{folder}: chat_template is neither a text, nor texts by name.")
    return templates


def _generation_ends(folder: Path, backend: tokenizers.Tokenizer) -> Iterator[str]:
    """The tokens that generation_config.json ends a text at, one or a list."""
    ids = read_map(folder / "generation_config.json").get("eos_token_id")
    for index in ids if isinstance(ids, list) else [ids]:
        if not isinstance(index, int):
            continue
        if (token := backend.id_to_token(index)) is not None:
            yield token
        else:
            log.warning("%s: generation_config.json ends at id %d, which the tokenizer has not.", folder, index)
