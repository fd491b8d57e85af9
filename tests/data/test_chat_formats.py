"""Conversations with systems, tools, calls, results and reasoning: as transformers renders them, and as published."""

# ruff: noqa: E501 (templates and conversations are read best as one line each)

import json
from datetime import date

import pytest

from ostinato.core.errors import UserError
from ostinato.data.chat import ChatTemplate
from ostinato.data.chat_templates import TEMPLATES
from ostinato.data.lost_messages import check_nothing_lost
from ostinato.data.rows import RowError

oracle = pytest.importorskip("transformers.utils.chat_template_utils")

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": None, "unk_token": "<unk>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": 'Adds "a" & <b>, ü.',
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}
CALL = {"id": "abc123XYZ", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "ü'<"}}}


def system(text="be brief"):
    return {"role": "system", "content": text}


def user(text="hi"):
    return {"role": "user", "content": text}


def assistant(text="yo", **more):
    return {"role": "assistant", "content": text, **more}


def result(text="3", **more):
    return {"role": "tool", "content": text, "tool_call_id": "abc123XYZ", **more}


TALKS = {
    "one": [user()],
    "answered": [user(), assistant(" yo \n")],
    "system": [system(" s "), user(" hi "), assistant(), user("again"), assistant("end")],
    "call": [user(), assistant("", tool_calls=[CALL]), result(), assistant("three")],
    "call with text": [system(), user(), assistant("let me", tool_calls=[CALL]), result('{"r": 3}'), assistant("three")],
    "two calls": [user(), assistant("", tool_calls=[CALL, CALL]), result("3"), result("4"), assistant(), user("more?")],
    "flat calls": [user(), assistant("", tool_calls=[CALL["function"] | {"id": "abc123XYZ"}]), result(), assistant()],
    "arguments as text": [
        user(),
        assistant("", tool_calls=[{**CALL, "function": {"name": "add", "arguments": '{"a": 1}'}}]),
        result(),
    ],
    "reasoning": [user(), assistant("4", reasoning_content="\n2+2\n"), user("sure?"), assistant("yes", reasoning_content="it is")],
    "reasoning inside": [user(), assistant("<think>\n2+2\n</think>\n\n4"), user("?"), assistant("<think>\nr\n</think>\n\nyes")],
    "reasoning over tools": [user(), assistant("", reasoning_content="call", tool_calls=[CALL]), result(), assistant("3", reasoning_content="so")],
    "reasoning by other names": [user(), assistant("4", thinking="2+2"), user(), assistant("5", reasoning="2+3")],
    "wrapped results": [user(), assistant(), user("<tool_response>\n1\n</tool_response>"), assistant("end")],
    "not in turn": [user(), user("again"), assistant()],
    "begins with the assistant": [assistant(), user()],
    "nothing": [],
}  # fmt: skip
OPTIONS = ({}, {"enable_thinking": False}, {"enable_thinking": True}, {"date_string": "1 Jan 2025"})


def theirs(source, talk, tools, prompt, options):
    options = {"date_string": "26 Jul 2024"} | options
    try:
        return oracle.render_jinja_template(
            [talk], tools=tools, chat_template=source, add_generation_prompt=prompt, **TOKENS, **options
        )[0][0]
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("name", TEMPLATES)
def test_as_transformers_renders(name):
    raised = 0
    for options in OPTIONS:
        template = ChatTemplate(TEMPLATES[name], TOKENS, options)
        for label, talk in TALKS.items():
            for tools in (None, [TOOL], [TOOL, TOOL]):
                for prompt in (False, True):
                    expected = theirs(TEMPLATES[name], talk, tools, prompt, options)
                    try:
                        assert template.render(talk, tools, add_generation_prompt=prompt).text == expected, label
                    except RowError:
                        assert isinstance(expected, type), label
                        raised += 1
    assert raised < len(TALKS) * 24 * 0.7


CALL_TEXT = '{"a": 1, "b": "ü\'<"}'
QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    + json.dumps(TOOL, ensure_ascii=False)
    + "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
)
QWEN_CALL = '<tool_call>\n{"name": "add", "arguments": ' + CALL_TEXT + "}\n</tool_call><|im_end|>"
QWEN_RESULT = "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n"
PUBLISHED = {  # written out from the formats' descriptions
    ("qwen2_5", "call"): "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n"
    f"{QWEN_TOOLS}<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n⟦{QWEN_CALL}⟧\n{QWEN_RESULT}"
    "<|im_start|>assistant\n⟦three<|im_end|>⟧\n",
    ("qwen3", "reasoning over tools"): f"<|im_start|>system\n{QWEN_TOOLS}<|im_start|>user\nhi<|im_end|>\n"
    f"<|im_start|>assistant\n⟦<think>\ncall\n</think>\n\n{QWEN_CALL}⟧\n{QWEN_RESULT}"
    "<|im_start|>assistant\n⟦<think>\nso\n</think>\n\n3<|im_end|>⟧\n",
    ("qwen3", "reasoning"): f"<|im_start|>system\n{QWEN_TOOLS}<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    "⟦4<|im_end|>⟧\n<|im_start|>user\nsure?<|im_end|>\n<|im_start|>assistant\n⟦<think>\nit is\n</think>\n\nyes<|im_end|>⟧\n",
    ("mistral", "call"): "<s>[AVAILABLE_TOOLS] [" + json.dumps(TOOL, ensure_ascii=False) + "][/AVAILABLE_TOOLS]"
    '[INST] hi[/INST]⟦[TOOL_CALLS] [{"name": "add", "arguments": ' + CALL_TEXT + ', "id": "abc123XYZ"}]</s>⟧'
    '[TOOL_RESULTS] {"content": 3, "call_id": "abc123XYZ"}[/TOOL_RESULTS]⟦ three</s>⟧',
    ("llama3_1", "call"): "<s><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, please respond with a JSON for a "
    "function call with its proper arguments that best answers the given prompt.\n\nRespond in the format "
    '{"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\n\n'
    + json.dumps(TOOL, ensure_ascii=False, indent=4)
    + "\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    '⟦{"name": "add", "parameters": ' + CALL_TEXT + "}<|eot_id|>⟧"
    '<|start_header_id|>ipython<|end_header_id|>\n\n"3"<|eot_id|>'
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦three<|eot_id|>⟧",
}  # fmt: skip


@pytest.mark.parametrize(("name", "talk"), PUBLISHED)
def test_published_formats_of_tools_and_what_is_trained_on(name, talk):
    template = ChatTemplate(TEMPLATES[name], TOKENS)
    speaking = [number for number, message in enumerate(TALKS[talk]) if message["role"] == "assistant"]
    text, spans = template.spans(TALKS[talk], speaking, [TOOL])
    marked = text
    for start, stop in reversed(spans):
        marked = f"{marked[:start]}⟦{marked[start:stop]}⟧{marked[stop:]}"
    assert marked == PUBLISHED[name, talk]
    check_nothing_lost(TALKS[talk], text)


def test_thinking_switched_off_is_in_the_prompt_and_not_trained():
    talk, empty = [user(), assistant("4")], "<think>\n\n</think>\n\n"
    off = ChatTemplate(TEMPLATES["qwen3"], TOKENS, {"enable_thinking": False})
    on = ChatTemplate(TEMPLATES["qwen3"], TOKENS)
    prompt = off.render(talk[:1], add_generation_prompt=True).text
    assert prompt.endswith(f"<|im_start|>assistant\n{empty}")
    assert on.render(talk[:1], add_generation_prompt=True).text + empty == prompt
    text, ((start, stop),) = off.spans(talk, [1])
    assert text == on.render(talk).text and text[:start] == prompt and text[start:stop] == "4<|im_end|>"
    text, ((start, stop),) = on.spans(talk, [1])
    assert text[start:stop] == f"{empty}4<|im_end|>"


def test_what_templates_refuse_is_said():
    for name, talk, message in (
        ("gemma2", TALKS["system"], "gemma2 has no system turn"),
        ("gemma2", TALKS["not in turn"], "user and assistant in turn"),
        ("mistral", [user(), result(tool_call_id="short")], "nine letters and digits"),
        ("llama3_1", TALKS["two calls"], "calls one tool in a turn"),
    ):
        with pytest.raises(RowError, match=f"the chat template fails: .*{message}"):
            ChatTemplate(TEMPLATES[name], TOKENS).render(talk, [TOOL])


def test_the_day_is_fixed_or_refused():
    source = "Today is {{ strftime_now('%d %b %Y') }}.{{ 1 if strftime_now is defined else 0 }}"
    with pytest.raises(RowError, match=r"asks which day it is: fix one, tokenizer.template_options: \{strftime_now: "):
        ChatTemplate(source, TOKENS).render([user()])
    for day in ("2024-07-26", date(2024, 7, 26)):
        assert ChatTemplate(source, TOKENS, {"strftime_now": day}).render([user()]).text == "Today is 26 Jul 2024.1"
    with pytest.raises(UserError, match="template_options.strftime_now: 'today' is no day such as 2024-07-26"):
        ChatTemplate(source, TOKENS, {"strftime_now": "today"})
    with pytest.raises(RowError, match="no plain pattern"):
        ChatTemplate("{{ strftime_now('%999999999d') }}", TOKENS, {"strftime_now": "2024-07-26"}).render([user()])
    on = ChatTemplate(TEMPLATES["llama3_1"], TOKENS, {"strftime_now": "2025-02-01"}).render([user()]).text
    assert "Today Date: 01 Feb 2025\n" in on


FEATURES = [
    "{% set ns = namespace(n=0, t='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.t = ns.t ~ m.role ~ ns.n %}"
    "{% endfor %}{{ ns.t ~ '!' }}",
    "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}"
    "{{ loop.previtem.role if loop.previtem is defined }}{{ m.content.strip().split(' ')[0] }}|{% endfor %}",
    "{% macro show(m, n=2) %}[{{ m.role * n }}]{{ caller() if caller else '' }}{% endmacro %}{{ show(messages[0]) }}"
    "{% call show(messages[-1], 1) %}in{{ 1 }}{% endcall %}",
    "{{ messages | tojson }}{{ tools | tojson(indent=2) }}{{ {'b': 1, 'a': [1, {'x': none}]} | tojson(sort_keys=true) }}",
    "{{ messages[1:] | length }}{{ messages[::-1][0].role }}{{ messages[0].content[:1] }}{{ (messages | list)[-1]['content'] }}",
    "{{ messages | map(attribute='content') | map('trim') | join(', ') }}{{ ['a', 'b'] | join }}{{ 'x'.join(['1', '2']) }}",
    "{% set picked = messages | selectattr('role', 'equalto', 'user') | rejectattr('content', 'equalto', 'x') | list %}"
    "{{ picked | length }}{{ picked | first | string }}{{ messages | groupby('role') | list | length }}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% else %}none{% endfor %}",
    "{% for m in messages recursive %}{{ m.role }}{{ loop(m.children) if m.children }}{% endfor %}",
    "{% set x %}  {{ messages[0].content }}{% endset %}{{ x | trim }}{% filter upper %}ab{{ 1 }}{% endfilter %}",
    "{{ '%s-%05d' % ('a', 42) }}{{ '{:>5}|{}'.format('x', 2) }}{{ 2 ** 10 }}{{ 7 % 3 }}{{ 'ab' * 3 }}{{ [1] + [2] }}{{ (1, 2) + (3,) }}",
    "{% for a, b in [('x', 1), ('y', 2)] %}{{ a }}{{ b }}{% endfor %}{% for k, v in tools[0].items() %}{{ k }}{% endfor %}",
    "{% if 'user' in messages | map(attribute='role') | list %}y{% endif %}{{ 'sys' not in ['a'] }}{{ 1 if tools is defined }}",
    "{{ dict(a=1, **{'b': 2}) }}{{ range(3) | list }}{{ cycler('a', 'b').next() }}{{ messages | last | tojson | safe }}",
    "{{ 'a<b&' | e }}{{ 'a b' | urlencode }}{{ 'text\\nmore' | indent(2) }}{{ 'abc' | replace('b', '') | center(7) }}|",
    "{%- if tools is iterable and tools is not mapping %}{{ tools[0].type | default('z') }}{{ nope | default('d') }}{%- endif -%}",
    "{{ bos_token + messages[0]['content'] | trim + eos_token }}{{ documents is none }}{{ mask_token is defined }}{{ unk_token }}",
    "{{ messages | batch(2) | list | length }}{{ [3, 1] | sort | first }}{{ {'a': 1} | items | list }}{{ (1.5 | int) // 1 }}{{ -3 | abs }}",
]  # fmt: skip


@pytest.mark.parametrize("source", FEATURES)
def test_what_templates_use_means_the_same_in_our_sandbox(source):
    for talk in (TALKS["system"], TALKS["call with text"]):
        ours = ChatTemplate(source, TOKENS).render(talk, [TOOL]).text
        expected = theirs(source, talk, [TOOL], False, {})
        assert ours == expected, expected
