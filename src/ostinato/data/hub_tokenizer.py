"""The tokenizer of a repository of the Hugging Face hub: its files alone are fetched, at a commit that is recorded."""

from __future__ import annotations

from ostinato.core.errors import UserError
from ostinato.core.hub import Repository
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_files import read_tokenizer

SETTINGS = {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
}
TEMPLATES = ("chat_templates/", "additional_chat_templates/")
VOCABULARIES = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"})
"""Each by itself is a tokenizer; the first that is there is fetched."""


def from_hub(path: str) -> Tokenizer:
    """hub:ORG/NAME[@REVISION]; `origin` of the tokenizer says at which commit. Raises UserError."""
    name, _, revision = path.removeprefix("hub:").partition("@")
    repository = Repository(name, revision or None, "model")
    present = set(repository.files)
    vocabulary = next((files for files in VOCABULARIES if files <= present), None)
    if vocabulary is None:
        raise UserError(f"tokenizer.path: {repository.origin} has no tokenizer.json, tokenizer.model or vocab.json.")
    wanted = [file for file in present if file in SETTINGS | vocabulary or file.startswith(TEMPLATES)]
    backend, arguments = read_tokenizer(repository.fetch(sorted(wanted)))
    return Tokenizer(backend, **arguments, origin=repository.origin)
