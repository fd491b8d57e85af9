"""Chats as text: spans by generation blocks and by growing prefixes, and what is refused."""

import pytest

from ostinato.core.errors import UserError
from ostinato.data.chat import ChatTemplate
from ostinato.data.chat_templates import TEMPLATES
from ostinato.data.lost_messages import check_nothing_lost
from ostinato.data.rows import RowError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": None}


def turns(*contents, first="user"):
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


TALK = [{"role": "system", "content": "be brief"}, *turns("hi", "yo\n", "und ü?", "<think>so</think>\n\n end")]
RENDERED = {  # written out from the formats' descriptions
    "chatml": (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        "⟦yo\n<|im_end|>⟧\n<|im_start|>user\nund ü?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>so</think>\n\n end<|im_end|>⟧\n",
        "<|im_start|>assistant\n",
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nbe brief<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦yo<|eot_id|>⟧"
        "<|start_header_id|>user<|end_header_id|>\n\nund ü?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦<think>so</think>\n\n end<|eot_id|>⟧",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "zephyr": (
        "<|system|>\nbe brief</s>\n<|user|>\nhi</s>\n<|assistant|>\n⟦yo\n</s>⟧\n"
        "<|user|>\nund ü?</s>\n<|assistant|>\n⟦<think>so</think>\n\n end</s>⟧\n",
        "<|assistant|>\n",
    ),
    "gemma": (
        "<s><start_of_turn>user\nbe brief\n\nhi<end_of_turn>\n<start_of_turn>model\n⟦yo<end_of_turn>⟧\n"
        "<start_of_turn>user\nund ü?<end_of_turn>\n<start_of_turn>model\n⟦<think>so</think>\n\n end<end_of_turn>⟧\n",
        "<start_of_turn>model\n",
    ),
    "plain": (
        "System: be brief\n\nUser: hi\n\nAssistant:⟦ yo\n</s>⟧\n\nUser: und ü?\n\n"
        "Assistant:⟦ <think>so</think>\n\n end</s>⟧\n\n",
        "Assistant:",
    ),
    "mistral": (
        "<s>[INST] be brief\n\nhi[/INST]⟦ yo</s>⟧[INST] und ü?[/INST]⟦ <think>so</think>\n\n end</s>⟧",
        "[INST] und ü?[/INST]",  # there is none
    ),
    "phi3": (
        "<|system|>\nbe brief<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\n⟦yo\n<|end|>⟧\n"
        "<|user|>\nund ü?<|end|>\n<|assistant|>\n⟦<think>so</think>\n\n end<|end|>⟧\n</s>",
        "<|assistant|>\n",
    ),
    "phi4": (
        "<|im_start|>system<|im_sep|>be brief<|im_end|><|im_start|>user<|im_sep|>hi<|im_end|>"
        "<|im_start|>assistant<|im_sep|>⟦yo\n<|im_end|>⟧<|im_start|>user<|im_sep|>und ü?<|im_end|>"
        "<|im_start|>assistant<|im_sep|>⟦<think>so</think>\n\n end<|im_end|>⟧",
        "<|im_start|>assistant<|im_sep|>",
    ),
}
RENDERED["qwen2_5"] = RENDERED["chatml"]
RENDERED["qwen3"] = (RENDERED["chatml"][0].replace("<think>so<", "<think>\nso\n<"), RENDERED["chatml"][1])
RENDERED["gemma2"] = (RENDERED["gemma"][0].replace("be brief\n\n", ""), RENDERED["gemma"][1])
RENDERED["llama3_1"] = (
    RENDERED["llama3"][0].replace(
        "be brief", "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nbe brief"
    ),
    RENDERED["llama3"][1],
)
ENDS = ("<|im_end|>", "<|end|>", "</s>", "<|eot_id|>", "<end_of_turn>")


def talk_for(name):
    """The conversation, without a system turn where the template refuses one."""
    return TALK[1:] if name == "gemma2" else TALK


def marked(text, spans):
    for start, stop in sorted(spans, reverse=True):
        text = f"{text[:start]}⟦{text[start:stop]}⟧{text[stop:]}"
    return text


def without_blocks(source):
    """The same template without generation blocks."""
    for tag in ("{%- generation %}", "{%- endgeneration %}"):
        assert tag in source
        source = source.replace(tag, "")
    return source


def test_every_shipped_template_is_tested():
    assert set(RENDERED) == set(TEMPLATES)


@pytest.mark.parametrize("name", RENDERED)
@pytest.mark.parametrize("edit", [str, without_blocks])
def test_shipped_templates(name, edit):
    template = ChatTemplate(edit(TEMPLATES[name]), TOKENS)
    expected, prompt = RENDERED[name]
    talk = talk_for(name)
    last = len(talk) - 1
    if (name, edit) == ("qwen3", without_blocks):  # an earlier answer is written without the <think> it had as the last
        with pytest.raises(RowError, match=r"first 3 of 5 messages .* there is '.*<think>.*' instead of '.*'"):
            template.spans(talk, [2, 4], ends=ENDS)
    else:
        assert marked(*template.spans(talk, [last - 2, last], ends=ENDS)) == expected
    second = expected.index("⟦", expected.index("⟦") + 1)
    only_last = expected[:second].replace("⟦", "").replace("⟧", "") + expected[second:]
    assert marked(*template.spans(talk, [last], ends=ENDS)) == only_last
    # What a model is given to answer is exactly what stands before the answer in training.
    before = template.render(talk[:last], add_generation_prompt=True).text
    assert before.endswith(prompt)
    assert expected.replace("⟦", "").replace("⟧", "").startswith(before)
    check_nothing_lost(talk, template.render(talk).text)


@pytest.mark.parametrize("name", RENDERED)
def test_rendering_is_that_of_transformers(name):
    oracle = pytest.importorskip("transformers.utils.chat_template_utils")
    texts, spans = oracle.render_jinja_template(
        [talk_for(name)],
        chat_template=TEMPLATES[name].replace("strftime_now is defined", "false"),
        return_assistant_tokens_mask=True,
        **TOKENS,
    )
    assert marked(texts[0], spans[0]) == RENDERED[name][0]


def test_chatml_writes_reasoning_in_front():
    message = {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
    text, spans = ChatTemplate(TEMPLATES["chatml"], TOKENS).spans([*turns("?"), message], [1])
    assert text[slice(*spans[0])] == "<think>\n2+2\n</think>\n\n4<|im_end|>"
    assert check_nothing_lost([*turns("?"), message], text) is False


FORGETFUL = (  # as templates of reasoning models do: no reasoning in turns that are over
    "{% for m in messages %}[{{ m.role }}]{% set answer = m.content.split('</think>')[-1] %}"
    "{{ answer if m.role == 'assistant' and not loop.last else m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_template_that_rewrites_history_is_refused_with_the_difference():
    talk = turns("a", "<think>why</think>so", "b", "end")
    template = ChatTemplate(FORGETFUL, TOKENS)
    # first two alone: [user]a|[assistant]<think>why</think>so|   whole: [user]a|[assistant]so|...
    message = r"first 2 of 4 messages .*: at character 19 there is '\[user\]a\|\[assistant\]<think>.*' instead of .*so"
    with pytest.raises(RowError, match=message):
        template.spans(talk, [1, 3])
    # the last answer's span needs no turn that is rewritten
    text, spans = template.spans(talk, [3])
    assert marked(text, spans) == "[user]a|[assistant]so|[user]b|[assistant]⟦end|⟧"
    assert check_nothing_lost(talk, text) is True


def test_reasoning_in_the_last_turn_only_is_reported_for_its_field_too():
    talk = turns("a", "so")
    talk[1]["reasoning_content"] = "why"
    assert check_nothing_lost(talk, ChatTemplate(FORGETFUL, TOKENS).render(talk).text) is True


def test_lost_message_is_an_error():
    no_system = "{% for m in messages if m.role != 'system' %}{{ m.content }}|{% endfor %}"
    text = ChatTemplate(no_system, TOKENS).render(TALK).text
    with pytest.raises(RowError, match=r"loses message 1 of 5 \(system\): 'be brief'"):
        check_nothing_lost(TALK, text)
    first_only = "{{ messages[0].content }}"
    twice = turns("same", "same")
    with pytest.raises(RowError, match="loses message 1 of 2"):  # one rendering of two equal messages
        check_nothing_lost(twice, ChatTemplate(first_only, TOKENS).render(twice).text)


def test_lost_tool_call_is_an_error():
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}
    text = ChatTemplate(TEMPLATES["chatml"], TOKENS).render([*turns("?"), call]).text
    with pytest.raises(RowError, match="loses the call of tool 'add'"):
        check_nothing_lost([*turns("?"), call], text)


def test_blocks_that_touch_are_one_and_empty_ones_none():
    source = "{% for m in messages %}{% generation %}{% endgeneration %}x{% generation %}a{% endgeneration %}{% generation %}b{% endgeneration %}{% endfor %}"  # noqa: E501
    rendering = ChatTemplate(source, TOKENS).render(turns("1", "2"))
    assert (rendering.text, rendering.blocks) == ("xabxab", [(1, 3), (4, 6)])


def test_single_messages_need_a_block_each():
    source = "{% for m in messages %}{% if loop.last %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}"  # noqa: E501
    template = ChatTemplate(source, TOKENS)
    talk = turns("1", "2", "3", "4")
    assert template.spans(talk, [1, 3]) == ("4", [(0, 1)])
    with pytest.raises(RowError, match="1 generation blocks for 2 assistant messages"):
        template.spans(talk, [3])


def test_a_block_in_a_comment_is_none():
    source = "{# {% generation %} #}{% for m in messages %}{{ m.content }}|{% endfor %}"
    text, spans = ChatTemplate(source, TOKENS).spans(turns("a", "b"), [1], ends=["|"])
    assert marked(text, spans) == "a|⟦b|⟧"


def test_marks_in_the_text_cannot_forge_a_span():
    template = ChatTemplate(TEMPLATES["chatml"], TOKENS)
    with pytest.raises(RowError, match="U\\+FDD0"):
        template.render(turns("a\ufdd0b", "c"))
    forged = turns("a\ufdd0b\ufdd1", "c")
    with pytest.raises(RowError, match="loses message 1"):
        check_nothing_lost(forged, template.render(forged).text)


def test_templates_are_sandboxed_and_know_no_date():
    for source in ("{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ strftime_now('%d') }}"):
        with pytest.raises(UserError, match="the chat template (fails|is refused): "):
            ChatTemplate(source, TOKENS).render(turns("a"))


def test_template_that_raises_or_cannot_be_read():
    with pytest.raises(RowError, match="fails: gemma has no role tool"):
        ChatTemplate(TEMPLATES["gemma"], TOKENS).render([{"role": "tool", "content": "x"}])
    with pytest.raises(RowError, match="'bos_token' is undefined. The tokenizer has none: take a template"):
        ChatTemplate(TEMPLATES["llama3_1"], {"bos_token": None}).render(turns("a"))
    with pytest.raises(UserError, match="chat template, line 2: "):
        ChatTemplate("a\n{% for %}", TOKENS)
