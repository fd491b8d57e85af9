"""Secrets are never stored: which variables may be recorded, which values are refused, which texts are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError

MASK = "***"
SECRET_OPTIONS = ("api_key", "secret", "password", "access_token")
ALLOWED_PREFIXES = ["CUDA_", "NCCL_", "TORCH_", "PYTORCH_", "OMP_", "MKL_", "ONEDNN_", "ATEN_", "CUBLAS_", "SLURM_"]
ALLOWED_PREFIXES += ["OSTINATO_", "TORCHELASTIC_", "GLOO_"]
ALLOWED_NAMES = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"}
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "JWT")

USER_PASSWORD = re.compile(r"(?<!\w)(?!run:|hub:)[A-Za-z][\w.+%-]*:[^\s/@]+(?=@[\w.-])")  # run:NAME@step is none
_OPTION = rf"[\w.-]*(?:{'|'.join(name.replace('_', '[_-]') for name in SECRET_OPTIONS)})"
OPTION_VALUE = re.compile(rf"(?P<name>{_OPTION}[\"']?\s*[=:]\s*)(?P<value>\S+)", re.IGNORECASE)
OPTION_WORD = re.compile(rf"--{_OPTION}", re.IGNORECASE)
TOKEN_FORMATS = re.compile(
    r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{50,}\b|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\bsk-(?=[\w-]*[0-9])(?=[\w-]*[A-Z])[\w-]{32,}|\bhf_[A-Za-z0-9]{30,}\b|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{35}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[A-Za-z0-9_-]{50,}"
    r"|\bey[A-Za-z0-9_-]{10,}\.ey[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def masked(text: str) -> str:
    """The text with passwords in URLs, values of secret options and well-known token formats replaced by `***`."""
    text = text.encode(errors="backslashreplace").decode()  # bytes that are no text, as arguments may hold
    text = OPTION_VALUE.sub(lambda match: match["name"] + MASK, text)
    return TOKEN_FORMATS.sub(MASK, USER_PASSWORD.sub(MASK, text))


def masked_command(command: Sequence[str]) -> list[str]:
    """A command line whose secret values are `***`, also where the value is the next word (`--api-key VALUE`)."""
    words: list[str] = []
    first = [Path(command[0]).name if Path(command[0]).name == "ostinato" else command[0]] if command else []
    for word in [*first, *command[1:]]:
        hidden = bool(words) and "=" not in words[-1] and OPTION_WORD.fullmatch(words[-1]) is not None
        words.append(MASK if hidden else masked(word))
    return words


def allowed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that matter to results and cannot be secrets, values masked all the same."""
    return {
        name: masked(value)
        for name, value in sorted(environ.items())
        if (name in ALLOWED_NAMES or name.startswith(tuple(ALLOWED_PREFIXES)))
        and not any(word in name.upper() for word in SECRET_WORDS)
    }


def refuse_secrets(values: Mapping[str, Any]) -> None:
    """Raise UserError if a resolved config holds what must never be written into a run folder."""
    found = [key for key, value in leaves(values) if isinstance(value, str) and value and _is_secret(key, value)]
    if found:
        raise UserError(
            "\n".join(f"{key}: a secret would be stored in the run folder." for key in found)
            + "\nLeave it out of the config and pass it in an environment variable that the component itself reads."
        )


def is_secret_name(key: str) -> bool:
    """Whether an option called so holds a secret."""
    return re.sub(r"(\[\d+\])+$", "", key).rpartition(".")[2].lower().endswith(SECRET_OPTIONS)


def _is_secret(key: str, value: str) -> bool:
    return is_secret_name(key) or any(pattern.search(value) for pattern in (USER_PASSWORD, TOKEN_FORMATS))


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested mappings and sequences with its key, `section.key` or `key[i]`."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{key}[{index}]")
    else:
        yield key, value
