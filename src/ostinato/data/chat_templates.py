"""Chat templates that come with ostinato, by name (`tokenizer.chat_template: chatml`): the files of `templates/`.

`{% generation %}` marks what the assistant says, up to and including the token that ends its turn: what is trained on.
"""

from __future__ import annotations

from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

TEMPLATES = {
    file.stem: file.read_text("utf-8") for file in sorted((Path(__file__).parent / "templates").glob("*.jinja"))
}
