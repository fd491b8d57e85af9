"""Templates that come with a model from anywhere: they reach nothing, end soon, and say so in one message."""

# ruff: noqa: E501 (a template is read best as one line)

import random
import time

import pytest

from ostinato.core.errors import UserError
from ostinato.data import template_budget
from ostinato.data.chat import ChatTemplate
from ostinato.data.chat_templates import TEMPLATES

TALK = [{"role": "user", "content": "hi " * 10}, {"role": "assistant", "content": "yo"}]

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ messages[0].__init__.__globals__ }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ [''] | map(attribute='__class__') | list | first }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__closure__ }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{x.__class__.__mro__}'.format_map({'x': ''}) }}",
    "{{ namespace.__init__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ self._TemplateReference__context }}",
    "{{ self.__init__ }}",
    "{{ loop.__class__ }}{% for x in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(a=1) }}",
    "{{ messages[0].pop('role') }}",
    "{{ dict.mro() }}",
    "{{ range.__self__ }}",
    "{% macro m() %}{% endmacro %}{{ m.__call__.__func__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends 'x' %}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum(10) }}",
    "{{ [1, 2] | random }}",
    "{{ tojson.__globals__ }}",
]
BOMBS = [
    "{% for a in range(1000000000) %}x{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% set x = range(99999) | list | length %}{% endfor %}",
    "{% for a in range(99999) %}{% set x = range(99999) | sum %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{{ 'a' * 10000000000 }}",
    "{{ 10000000000 * 'a' }}",
    "{{ [0] * 10000000000 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{% if 9 ** (9 ** 9) %}{% endif %}",
    "{% set x = 99999999 ** 99999999 %}",
    "{% autoescape 9 ** (9 ** 9) %}{% endautoescape %}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '%*d' % (10000000000, 1) }}",
    "{{ '{:10000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10000000000) }}",
    "{{ '{a:{b}}'.format_map({'a': 1, 'b': 10000000000}) }}",
    "{{ '{:10000000000}' | format(1) }}{{ '%10000000000d' | format(1) }}",
    "{{ 'a' | center(10000000000) }}",
    "{{ 'a'.ljust(10000000000) }}",
    "{{ 'a'.zfill(10000000000) }}",
    "{{ '\t'.expandtabs(10000000000) }}",
    "{{ ('\n' * 1000000) | indent(1000000) }}",
    "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 1000000).join(('b' * 1000000) | list) }}",
    "{{ ('b' * 1000000) | join('a' * 1000000) }}",
    "{{ ('b' * 1000000) | list | join('a' * 1000000) }}",
    "{{ ('a' * 1000000).translate({97: 'b' * 1000000}) }}",
    "{{ ['x'] | batch(10000000000, 'y') | list }}",
    "{{ [1] | slice(10000000000) | list }}",
    "{{ messages | tojson(indent=10000000000) }}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x.join([ns.x, ns.x]) %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x] * 2 %}{% endfor %}{{ ns.x | tojson }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = {1: ns.x, 2: ns.x} %}"
    "{% set ns.y = {1: ns.y, 2: ns.y} %}{% endfor %}{{ ns.x == ns.y }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ['a' * 1000000] %}{% endfor %}",
    "{{ 'a' | wordwrap(1) }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
]  # fmt: skip


def run(source: str) -> str:
    """The text; an error of a template or a row is all that may come."""
    return ChatTemplate(source, {}).render(TALK).text


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_is_reached(source):
    try:
        assert run(source).strip() in ("", "None")
    except UserError as error:
        assert "chat template" in str(error) and "\n" not in str(error)
    assert TALK[0].keys() == {"role", "content"} and len(TALK) == 2


@pytest.mark.parametrize("source", BOMBS)
def test_work_and_memory_are_bounded(source, monkeypatch):
    monkeypatch.setattr(template_budget, "LIMIT", 1 << 23)  # all bounds are shares of it
    start = time.process_time()
    with pytest.raises(UserError, match=r"chat template") as caught:
        run(source)
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_bound_itself_is_some_seconds():
    start = time.process_time()
    with pytest.raises(
        UserError, match="does more than a chat template may: 1,073,741,824 characters, or 1,677,721 turns"
    ):
        run(BOMBS[1])
    assert time.process_time() - start < 25


def test_each_rendering_has_its_own_budget(monkeypatch):
    monkeypatch.setattr(template_budget, "LIMIT", 1_000_000)
    template = ChatTemplate("{% for i in range(1000) %}{{ i }}{% endfor %}", {})
    texts = {template.render(TALK).text for _ in range(3)}
    assert len(texts) == 1


def test_long_conversations_are_within_the_budget():
    talk = [{"role": ("user", "assistant")[i % 2], "content": "word " * 2000} for i in range(400)]
    for source in TEMPLATES.values():
        assert len(ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}).render(talk).text) > 3_900_000


def test_pieces_of_templates_at_random():
    """Whatever is put together from what templates are made of: a text, or one message."""
    words = ["{% for m in messages %}", "{% endfor %}", "{% if m.content %}", "{% else %}", "{% endif %}", "{{ m.role }}",
             "{{ m['content'] * 3 }}", "{% generation %}", "{% endgeneration %}", "{% set x = namespace(a=m) %}", "{{ x.a }}",
             "{% set x.a = [x.a, x.a] %}", "{{ x ~ x }}", "{% macro f(a) %}", "{% endmacro %}", "{{ f(f) }}", "{{ loop.index }}",
             "{{ messages | tojson }}", "{{ m | map('upper') | list }}", "{{ ''.join(messages) }}", "{{ bos_token }}", "{%- -%}",
             "{{ 1 / 0 }}", "{{ messages[7] }}", "{% break %}", "{{ raise_exception('no') }}", "\ufdd0", "{#", "#}", "{{", "}}",
             "{% raw %}", "{{ -1 ** 0.5 }}", "{{ m.content.split('') }}", "{{ {}[[]] }}", "{{ {[]: 1} }}", "{{ x(*m, **m) }}"]  # fmt: skip
    chance = random.Random(7)
    for _ in range(1500):
        source = "".join(chance.choice(words) for _ in range(chance.randint(1, 9)))
        try:
            assert isinstance(run(source), str)
        except UserError as error:
            assert "chat template" in str(error) or "U+FDD0" in str(error), source
