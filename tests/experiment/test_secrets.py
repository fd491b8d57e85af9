"""Secrets are masked, refused or left out; what only looks a little like one is kept."""

import pytest

from ostinato.core.errors import UserError
from ostinato.experiment.secrets import allowed_variables, masked, masked_command, refuse_secrets

GITHUB = "ghp_" + "a1B2" * 9
HUGGING_FACE = "hf_" + "abcDEF123" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pa55@host/x.git", "https://***@host/x.git"),
        ("https://me@host/x.git", "https://me@host/x.git"),
        ("git@github.com:me/x.git", "git@github.com:me/x.git"),
        ("run:first@500", "run:first@500"),
        ("judge.api_key=abc", "judge.api_key=***"),
        ("{'password': 'abc'}", "{'password': ***"),
        ("--access-token=abc", "--access-token=***"),
        (f"use {GITHUB} here", "use *** here"),
        (HUGGING_FACE, "***"),
        ("sk-" + "aB3" * 12, "***"),
        ("sk-learn-classification-baseline-of-the-year", "sk-learn-classification-baseline-of-the-year"),
        ("training.learning_rate=1e-4", "training.learning_rate=1e-4"),
        ("tokenizer.path=runs/tokens", "tokenizer.path=runs/tokens"),
    ],
)
def test_texts(text, expected):
    assert masked(text) == expected


def test_commands():
    assert masked_command(["train", "x.yaml", "--api-key", "abc", "-o", "a.password=b", "--name", "n"]) == [
        "train", "x.yaml", "--api-key", "***", "-o", "a.password=***", "--name", "n",
    ]  # fmt: skip
    assert masked_command(["/opt/venv/bin/ostinato", "train"]) == ["ostinato", "train"]
    assert masked_command(["a\udcff"]) == ["a\\udcff"]  # bytes that are no text can be written down


def test_variables():
    environ = {"CUDA_VISIBLE_DEVICES": "0", "NCCL_DEBUG": "INFO", "RANK": "3", "HOME": "/home/me", "AWS_ACCESS": "x",
               "OSTINATO_API_KEY": "x", "SLURM_JWT": "x", "TORCH_TOKEN": "x", "OSTINATO_PASSWD": "x"}  # fmt: skip
    assert allowed_variables(environ) == {"CUDA_VISIBLE_DEVICES": "0", "NCCL_DEBUG": "INFO", "RANK": "3"}


def test_config_values():
    refuse_secrets({"a": {"api_key": None, "secret": "", "max_tokens": "12", "remote": "http://host:8000/v1"}})
    for values in (
        {"a": {"judge_api_key": "x"}},
        {"a": [{"b": "http://u:p@host"}]},
        {"db": {"password": "x"}},
        {"notes": f"use {GITHUB}"},
    ):
        with pytest.raises(UserError, match="a secret would be stored in the run folder"):
            refuse_secrets(values)
