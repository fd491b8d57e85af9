"""`ostinato chat`: a conversation with a run or a model, in the terminal."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from ostinato.cli.generate import Chosen, open_model, sampling_options

if TYPE_CHECKING:
    from ostinato.core.samples import Sample

HELP = "/system TEXT begins anew with that instruction, /reset begins anew, /quit or Ctrl-D ends; Ctrl-C stops a reply."


@click.command("chat")
@click.argument("source", metavar="RUN_OR_MODEL")
@sampling_options
def command(source: str, **options: Any) -> None:
    """Talk to a model. RUN_OR_MODEL is a run's name, its folder, or a folder with config.json and safetensors.

    With a chat template what you type is the user's turn; without one, text that the model continues.
    """
    chosen = open_model(source, options)
    chat = chosen.tokenizer.chat_template is not None
    click.echo(HELP if chat else f"This model has no chat template: it continues what you type. {HELP}")
    conversation = Conversation(chosen, chat)
    while (line := ask()) is not None:
        verb, _, rest = line.strip().partition(" ")
        if verb in ("/quit", "/exit"):
            break
        if verb == "/reset":
            conversation.reset()
        elif verb == "/system":
            conversation.reset(rest.strip())
        elif verb.startswith("/"):
            click.echo(HELP)
        elif line:
            conversation.answer(line)


def ask() -> str | None:
    """What is typed; None at the end of input. Ctrl-C drops the line."""
    try:
        return input("> ")
    except EOFError:
        click.echo()
        return None
    except KeyboardInterrupt:
        click.echo()
        return ""


class Conversation:
    """The turns so far; without a template, the text so far."""

    def __init__(self, chosen: Chosen, chat: bool) -> None:
        from ostinato.generation.generator import Generator

        self.chosen, self.chat, self.turn = chosen, chat, 0
        self.generator = Generator(chosen.tokenizer, 1, exact=False)
        self.reset()

    def reset(self, system: str = "") -> None:
        """Begin anew; `system` is what the model is told first."""
        self.messages = [{"role": "system", "content": system}] if system else []
        self.text = system

    def answer(self, line: str) -> None:
        """The model's answer to a line, shown as it comes."""
        from ostinato.core.errors import UserError

        before = [*self.messages], self.text
        self.messages.append({"role": "user", "content": line})
        self.text += line
        try:
            reply = self._sample(self.chosen.encode(self.messages if self.chat else self.text))
        except UserError as error:
            click.echo(f"{error}\nThe conversation may be too long: /reset begins anew.")
            self.messages, self.text = before
            return
        self.messages.append({"role": "assistant", "content": reply})
        self.text += reply

    def _sample(self, ids: list[int]) -> str:
        shown = Shown(self.chosen)
        self.turn += 1
        params = dataclasses.replace(self.chosen.params, n=1)
        try:
            (sample,) = self.generator.generate(self.chosen.model, [ids], params, numbers=[self.turn], heard=shown.hear)
            shown.add(sample.text)
            if sample.truncated:
                click.echo(f" [{sample.stop_reason}]", nl=False)
        except KeyboardInterrupt:  # what was said so far stays
            pass
        click.echo()
        return shown.text


class Shown:
    """Text that appears as it is sampled. What may yet change is held back: a torn character, a stop string's begin."""

    def __init__(self, chosen: Chosen) -> None:
        self.tokenizer, self.stop, self.text = chosen.tokenizer, chosen.params.stop, ""

    def hear(self, sample: Sample) -> None:
        """The sample grew by a token."""
        if not sample.stop_reason:
            self.add(self.settled(self.tokenizer.decode(sample.response_ids)))

    def add(self, text: str) -> None:
        """Show what is new."""
        if text.startswith(self.text):
            click.echo(text[len(self.text) :], nl=False)
            self.text = text

    def settled(self, text: str) -> str:
        """The part that no further token changes."""
        text = text.rstrip("\ufffd")
        longest = max((len(stop) for stop in self.stop), default=1)
        for held in range(min(longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-held:]) for stop in self.stop):
                return text[:-held]
        return text
