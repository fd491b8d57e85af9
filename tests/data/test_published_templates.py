"""Templates as their authors publish them, where trl brings them along: in our sandbox, beside ours, their masks."""

import importlib.util
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from tests.data.test_chat_formats import TALKS, TOKENS, TOOL, theirs

from ostinato.core.errors import UserError
from ostinato.data.chat import ChatTemplate
from ostinato.data.chat_templates import TEMPLATES

trl = importlib.util.find_spec("trl")
FOLDER = Path(str(trl and trl.origin)).parent / "chat_templates"
if not FOLDER.is_dir():
    pytest.skip("no trl here", allow_module_level=True)
PUBLISHED = {file.stem: file.read_text("utf-8") for file in sorted(FOLDER.glob("*.jinja"))}
OURS = {"qwen2_5": "qwen2_5", "qwen3": "qwen3", "llama3": "llama3", "llama3_1": "llama3_2", "gemma2": "gemma",
        "gemma": "gemma3", "phi3": "phi3_5"}  # fmt: skip
DEVIATIONS = {
    ("llama3", "nothing"): "a text without messages begins as every text",
    ("llama3_1", "begins with the assistant"): "tools stand in a user's turn only",
    **{(name, "arguments as text"): "arguments are an object, however a data set writes them" for name in OURS},
}
ENDS = ("<|im_end|>", "</s>", "<|eot_id|>", "<end_of_turn>", "<|END_OF_TURN_TOKEN|>")


def rendered(template, *arguments, **options):
    try:
        return template.render(*arguments, **options).text
    except UserError as error:
        return error


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates_in_our_sandbox(name):
    for options in ({}, {"enable_thinking": False}):
        today = {"strftime_now": date.today(), "date_string": "26 Jul 2024"}
        template = ChatTemplate(PUBLISHED[name], TOKENS, today | options)
        for label, talk in TALKS.items():
            for tools in (None, [TOOL]):
                ours = rendered(template, talk, tools, add_generation_prompt=True)
                expected = theirs(PUBLISHED[name], talk, tools, True, options)
                assert ours == expected or (isinstance(ours, UserError) and isinstance(expected, type)), label


@pytest.mark.parametrize("name", OURS)
def test_ours_are_as_published(name):
    seen = Counter()
    for options in ({}, {"enable_thinking": False}):
        template = ChatTemplate(TEMPLATES[name], TOKENS, {"date_string": "26 Jul 2024"} | options)
        for label, talk in TALKS.items():
            for tools in (None, [TOOL], [TOOL, TOOL]):
                for prompt in (False, True):
                    ours = rendered(template, talk, tools, add_generation_prompt=prompt)
                    expected = theirs(PUBLISHED[OURS[name]], talk, tools, prompt, options)
                    if isinstance(ours, UserError) or isinstance(expected, type):
                        seen["refused"] += 1
                    elif (name, label) not in DEVIATIONS:
                        assert ours == expected, label
                        seen["equal"] += 1
    assert seen["equal"] >= 60


def test_growing_prefixes_find_what_blocks_mark():
    """A template and the same with blocks; where the blocks hold what the generation prompt gives, or what follows the
    stop token, they are not compared."""
    seen = Counter()
    for name in ("llama3", "gemma", "gemma3", "qwen2_5_vl", "qwen3_vl", "qwen3_instruct_2507", "lfm2", "cohere"):
        if f"{name}_training" not in PUBLISHED or name not in PUBLISHED:
            continue
        with_blocks, without = (ChatTemplate(PUBLISHED[one], TOKENS) for one in (f"{name}_training", name))
        for label, talk in TALKS.items():
            speaking = [number for number, message in enumerate(talk) if message["role"] == "assistant"]
            try:
                expected = with_blocks.spans(talk, speaking)
                found = without.spans(talk, speaking, ends=ENDS)
            except UserError:
                seen["refused"] += 1
                continue
            assert found == expected, (name, label)
            seen["equal"] += bool(speaking)
    assert seen["equal"] > 60
