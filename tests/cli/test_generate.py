"""`ostinato generate` and `ostinato chat` on a model folder made here, in this process; files, resumption, words."""

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from ostinato.cli import chat, generate
from ostinato.core.config import Component
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.data.chat_templates import TEMPLATES
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import byte
from ostinato.training.initialise import build_model
from ostinato.training.model_files import model_files

OPTIONS = {"width": 32, "layers": 2, "heads": 4, "init_std": 0.3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), byte().with_chat_template(TEMPLATES["plain"]))


def write_model(path: Path, tokenizer: Tokenizer, length: int = 96) -> Path:
    """What a checkpoint's `model` holds."""
    torch.set_num_threads(1)
    inputs = ModelInputs(tokenizer.vocab_size, length)
    model = build_model(Component("transformer", OPTIONS), inputs, 0, torch.device("cpu"))
    node = Component("transformer", model.options)
    for name, content in model_files(None, node, model, inputs, tokenizer).items():  # type: ignore[arg-type]
        (path / name).write_bytes(content)
    save_file(model.state_dict(), path / "model.safetensors")
    return path


def run(command: click.Command, *arguments: object, typed: str | None = None) -> str:
    """What the verb prints; its errors as they are."""
    found = CliRunner().invoke(command, [str(one) for one in arguments], input=typed)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows(path: Path, count: int = 5) -> Path:
    path.write_text("".join(json.dumps({"id": n, "prompt": f"p{n}é", "gold": [n]}) + "\n" for n in range(count)))
    return path


def test_a_file_of_rows_keeps_their_keys(folder: Path, tmp_path: Path) -> None:
    asked, out = rows(tmp_path / "asked.jsonl"), tmp_path / "deep" / "out.jsonl"
    said = run(generate.command, folder, "--prompts", asked, "--out", out, "--n", 2, "--max-new-tokens", 6)
    assert "10 samples of 5 prompts" in said and "samples 10/10" in said
    found = lines(out)
    assert [(row["id"], row["gold"], row["prompt"], row["sample"]) for row in found] == [
        (n, [n], f"p{n}é", copy) for n in range(5) for copy in range(2)
    ]
    assert all(set(row) == {"id", "prompt", "gold", "text", "sample", "stop_reason"} for row in found)
    assert len({row["text"] for row in found}) > 5
    # the same prompts given one by one on the command line, with the same keys of random numbers
    shown = json.loads(run(generate.command, folder, "--prompt", "p0é", "--n", 2, "--max-new-tokens", 6, "--json"))
    assert [one["text"] for one in shown] == [row["text"] for row in found[:2]]


def test_text_and_messages_and_ids(folder: Path, tmp_path: Path) -> None:
    plain, out = tmp_path / "asked.txt", tmp_path / "out.jsonl"
    plain.write_text("one\n\n two \nthree")
    run(generate.command, folder, "--prompts", plain, "--out", out, "--max-new-tokens", 3, "--ids", "--logprobs", 2)
    found = lines(out)
    assert [row["prompt"] for row in found] == ["one", " two ", "three"]
    for row in found:
        assert len(row["response_ids"]) == len(row["log_probs"]) == len(row["top"]) <= 3
    asked = tmp_path / "asked.jsonl"
    told = [{"role": "system", "content": "S"}, {"role": "user", "content": "one"}]
    asked.write_text(
        "".join(
            json.dumps({"messages": m}) + "\n" for m in (told[1:], told, [*told, {"role": "assistant", "content": "x"}])
        )
    )
    again = tmp_path / "again.jsonl"
    run(generate.command, folder, "--prompts", asked, "--out", again, "--max-new-tokens", 3, "--ids")
    of_messages = lines(again)
    assert of_messages[0]["prompt_ids"] == found[0]["prompt_ids"]  # a text is a user's turn
    assert of_messages[1]["prompt_ids"] == of_messages[2]["prompt_ids"]  # an answer at the end is what is asked for
    with pytest.raises(UserError, match=r"asked\.jsonl:1: messages have no plain form"):
        run(generate.command, folder, "--prompts", asked, "--out", tmp_path / "new.jsonl", "--plain")


@pytest.mark.parametrize("kept", [0, 1, 5, 9, 10])
@pytest.mark.parametrize("torn", ["", '{"id": 3, "te'])
def test_it_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path, kept: int, torn: str) -> None:
    asked, out = rows(tmp_path / "asked.jsonl"), tmp_path / "out.jsonl"
    arguments = (folder, "--prompts", asked, "--out", out, "--n", 2, "--max-new-tokens", 8)
    run(generate.command, *arguments)
    whole = out.read_text()
    out.write_text("".join(whole.splitlines(keepends=True)[:kept]) + (torn if kept < 10 else ""))
    said = run(generate.command, *arguments)
    assert out.read_text() == whole
    assert (f"{kept} of 10 samples are there already" in said) == (kept > 0)


def test_other_settings_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    asked, out = rows(tmp_path / "asked.jsonl"), tmp_path / "out.jsonl"
    arguments = (folder, "--prompts", asked, "--out", out, "--max-new-tokens", 4)
    run(generate.command, *arguments)
    before = out.read_text()
    with pytest.raises(UserError, match=r"other settings:\n  temperature: 1\.0 then, 0\.5 now\n.*name another file"):
        run(generate.command, *arguments, "--temperature", 0.5)
    rows(asked, 6)
    with pytest.raises(UserError, match=r"other settings:\n  prompts: '"):
        run(generate.command, *arguments)
    Path(f"{out}.settings.json").unlink()
    with pytest.raises(UserError, match=r"it is not known what made it"):
        run(generate.command, *arguments)
    assert out.read_text() == before


def test_what_cannot_be_used_is_named_with_its_line(folder: Path, tmp_path: Path) -> None:
    asked, out = tmp_path / "asked.jsonl", tmp_path / "out.jsonl"
    for text, said in (
        (
            '{"prompt": "a"}\n\n{"ask": "b"}\n',
            r"asked\.jsonl:3: holds no `prompt`, `messages` or `question` to answer, but ask",
        ),
        ('{"prompt": "a", "text": "b"}\n', r"asked\.jsonl:1: the key 'text' is one that is written"),
        (
            '{"prompt": "a"}\n{"prompt": "' + "b" * 99 + '"}\n',
            r"asked\.jsonl:2: the prompt has \d+ tokens.*context of 96",
        ),
    ):
        asked.write_text(text)
        with pytest.raises(UserError, match=said):
            run(generate.command, folder, "--prompts", asked, "--out", out)
    with pytest.raises(UserError, match="go together"):
        run(generate.command, folder, "--prompts", asked)
    assert not out.exists()


def test_a_chat_remembers_resets_and_ends(folder: Path) -> None:
    """The answers are those of the whole conversation, turn by turn, each under its own number."""
    said = run(
        chat.command, folder, "--max-new-tokens", 5, typed="hi\n/system be brief\nhi\n/what\n/reset\nhi\n/quit\nno\n"
    )
    assert said.count("> ") == 7 and said.count("/system TEXT") == 2
    chosen = generate.open_model(str(folder), {"step": None, "device": "cpu", "root": ".", "seed": 0, "stop": ()})
    chosen = replace(chosen, params=replace(chosen.params, max_new_tokens=5))
    talk = chat.Conversation(chosen, True)
    talk.answer("hi")
    first = talk.messages[1]["content"]
    talk.answer("and?")
    assert [one["role"] for one in talk.messages] == ["user", "assistant"] * 2
    assert first in said
    talk.answer("x" * 200)  # no room: the turn is taken back
    assert len(talk.messages) == 4
    talk.reset("be brief")
    assert talk.messages == [{"role": "system", "content": "be brief"}]


def test_without_a_template_chat_continues_the_text(tmp_path: Path) -> None:
    said = run(
        chat.command, write_model(tmp_path, Tokenizer(byte()._backend)), "--max-new-tokens", 4, typed="once\nupon\n"
    )
    assert "no chat template: it continues what you type" in said


def test_an_interrupt_stops_the_reply_and_keeps_what_was_said(tmp_path: Path) -> None:
    endless = Tokenizer(byte()._backend, chat_template=TEMPLATES["plain"])
    chosen = generate.open_model(
        str(write_model(tmp_path, endless, 30000)),
        {"step": None, "device": "cpu", "root": ".", "seed": 0, "stop": (), "max_new_tokens": 29000},
    )
    talk, timer = chat.Conversation(chosen, True), threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    talk.answer("hi")  # would take minutes
    timer.cancel()
    assert talk.messages[1]["role"] == "assistant" and 0 < len(talk.messages[1]["content"]) < 29000
    talk.reset()


def test_streamed_text_is_never_taken_back(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    options = {"step": None, "device": "cpu", "root": ".", "seed": 0, "stop": ("STOP",)}
    shown = chat.Shown(generate.open_model(str(folder), options))
    for text in ("a", "aS", "aST", "aSTx", "aSTx\ufffd", "aSTxé", "aSTxéSTO"):
        shown.add(shown.settled(text))
    assert shown.text == "aSTxé"
    shown.add("aSTxé")
    assert capsys.readouterr().out == "aSTxé"


def test_a_runs_checkpoints_are_sampled_from(tmp_path: Path) -> None:
    from tests.faults.processes import finish
    from tests.training.tiny import write_config

    config, log = write_config(tmp_path, "sft"), tmp_path / "log"
    assert finish(["train", str(config), "--name", "run", "-o", "logging.samples_interval=3"], log) == 0, (
        log.read_text()
    )
    folder = tmp_path / "experiments" / "run"
    assert (folder / "outputs" / "samples" / "step_00000006.txt").is_file()
    (shown,) = json.loads(run(generate.command, folder, "--prompt", "hé", "--max-new-tokens", 5, "--json"))
    assert shown["prompt_text"] == "hé" and shown["stop_reason"]
    with pytest.raises(UserError, match=r"no checkpoint of step 5; there are: 2, 4, 6"):
        run(generate.command, folder, "--step", 5)
    asked, out = rows(tmp_path / "asked.jsonl"), tmp_path / "out.jsonl"
    run(generate.command, folder, "--prompts", asked, "--out", out, "--step", 4)
    with pytest.raises(UserError, match=r"other settings:\n  model: .*'step': 4.* then, .*'step': 6"):
        run(generate.command, folder, "--prompts", asked, "--out", out)
