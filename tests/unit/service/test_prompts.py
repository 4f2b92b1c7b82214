"""Prompt templates: chosen by agent, never broken by what is missing, and bounded."""

import time
import tracemalloc
from pathlib import Path

import pytest

from runtime.settings import SettingsError
from service.prompts import MAX_PROMPT_CHARACTERS, Prompts


def rendered(folder: Path, source: str, **values: object) -> str:
    (folder / "default.j2").write_text(source)
    return Prompts(folder).of(None).render(values)


def refusal(folder: Path, source: str) -> str:
    (folder / "default.j2").write_text(source)
    with pytest.raises(SettingsError) as refused:
        Prompts(folder)
    return str(refused.value)


def test_an_agent_has_its_own_template_and_the_others_the_default(tmp_path: Path) -> None:
    (tmp_path / "default.j2").write_text("default")
    (tmp_path / "-OmNNf485Na8Bw82RSfz.j2").write_text("of the agent")
    (tmp_path / "notes.txt").write_text("{% wrong")
    prompts = Prompts(tmp_path)
    assert prompts.of("-OmNNf485Na8Bw82RSfz").render({}) == "of the agent"
    for other in (None, "", "-Om", "../default", "-OmNNf485Na8Bw82RSfz.j2", "/etc/passwd", "a" * 10_000, "\0"):
        assert prompts.of(other).render({}) == "default"


def test_without_a_folder_the_built_in_prompt_speaks_of_earlier_calls_only() -> None:
    prompts = Prompts(None)
    assert prompts.of(None).render({}) == ""
    assert prompts.of(None).render({"calls": 0}) == ""
    assert prompts.of(None).render({"calls": 1}) == "This caller has called 1 time before."
    values = {"calls": 2, "last_call_at": "2026-01-31T09:30:00.000001Z"}
    assert prompts.of(None).render(values) == "This caller has called 2 times before, the last time on 2026-01-31."


def test_a_folder_without_a_default_falls_back_to_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("A")
    assert Prompts(tmp_path).of("b").render({"calls": 1}) == "This caller has called 1 time before."


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("a{{ missing }}b", "ab"),
        ("a{{ missing.deeper.still }}b", "ab"),
        ("a{{ missing['x'][3].y }}b", "ab"),
        ("a{{ none }}b", "ab"),
        ("{{ missing | default('x') }}", "x"),
        ("{{ missing | upper }}", ""),
        ("{% for x in missing %}{{ x }}{% endfor %}.", "."),
        ("{% for name, value in facts.items() %}{{ name }}={{ value }} {% endfor %}", "tier=gold balance=12.5"),
        ("{% if facts.tier == 'gold' %}Gold.{% endif %}", "Gold."),
        ("{% set tier = facts.tier | default('none') | upper %}{{ tier }}", "GOLD"),
        ("{{ facts.keys() | join(', ') }}", "tier, balance"),
        ("{{ facts | tojson }}", '{"balance": 12.5, "tier": "gold"}'),
        ("{{ (facts.balance * 2) | round(1) }}", "25.0"),
        ("{{ facts.balance | round(10**8, 'ceil') }}", ""),
        ("{{ 'a' ~ facts.tier }}", "agold"),
    ],
)
def test_what_a_template_can_say(tmp_path: Path, source: str, prompt: str) -> None:
    assert rendered(tmp_path, source, facts={"tier": "gold", "balance": 12.5}, none=None) == prompt


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in x %}{% for b in x %}{% endfor %}{% endfor %}",
        "{% for a in x %}{% if a %}{% for b in x %}{% endfor %}{% endif %}{% endfor %}",
        "{% for a in x recursive %}{{ loop(a) }}{% endfor %}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{% include 'default.j2' %}",
        "{% extends 'default.j2' %}",
        "{% import 'default.j2' as d %}",
        "{% set a = 'x' ~ 'x' %}",
        "{% set a = x + x %}",
        "{% set a = [x, x] %}",
        "{% set a %}{{ x }}{{ x }}{% endset %}",
        "{% with a = x %}{% endwith %}",
        "{% set a = x | tojson %}",
        "{% filter upper %}a{% endfilter %}",
        "{{ x | tojson | tojson }}",
        "{{ x | join('a') | join('b') }}",
        "{{ x | join(x) }}",
        "{{ x | join('" + "y" * 200 + "') }}",
        "{{ x | join(*y) }}",
        "{{ x | tojson(100000000) }}",
        "{{ x | tojson(indent=101) }}",
        "{{ x | trim(x) }}",
        "{{ x.strip(x) }}",
        "{{ x | _charge }}",
        "{{ 'x' | center(10**9) }}",
        "{{ 'x' | indent(10**9) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ x | replace('a', 'b') }}",
        "{{ x | map('upper') }}",
        "{{ 'x'.ljust(10**9) }}",
        "{{ 'x'.zfill(10**9) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ ''.__class__() }}",
        "{{ range(10) }}",
        "{{ lipsum() }}",
        "{{ cycler('a') }}",
        "{{ x['pop']() }}",
    ],
)
def test_what_could_grow_is_refused_at_the_start(tmp_path: Path, source: str) -> None:
    said = refusal(tmp_path, "one\n" + source)
    assert f"The prompt template {tmp_path / 'default.j2'} is wrong in line 2: " in said
    assert "not allowed here." in said


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**9 }}",
        "{{ x * 1000000 }}",
        "{{ 9 ** 9999999 }}",
        "{{ 9 ** 99 ** 99 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ 1 / 0 }}",
        "{{ x.y.z | first }}",
    ],
)
def test_what_is_found_out_only_later_gives_an_empty_prompt_at_once(tmp_path: Path, source: str) -> None:
    started = time.perf_counter()
    assert rendered(tmp_path, source, x="text") == ""
    assert time.perf_counter() - started < 1


FACTS = {f"fact {n}": "x" * 8000 for n in range(200)}  # of a caller: as many and as large as can be
NUMBERS = {f"fact {n}": [*range(1500)] for n in range(200)}


@pytest.mark.parametrize("facts", [FACTS, NUMBERS], ids=["texts", "numbers"])
@pytest.mark.parametrize(
    "source",
    [
        "{% for c in note %}{{ note | sort | length }}{% endfor %}",
        "{% for c in facts %}{{ note | sort | length }}{% endfor %}",
        "{% for c in note %}{{ facts }}{% endfor %}",
        "{% for c in facts %}{{ facts }}{% endfor %}",
        "{{ facts }}" * 2000,
        "{% for c in facts %}{% if facts | string | length == 7 %}{% endif %}{% endfor %}",
        "{% for c in facts if facts | tojson | length == 7 %}{% endfor %}",
        "{% for c in facts %}{% if facts.values() == facts.values() %}{% endif %}{% endfor %}",
        "{% for c in facts %}{% set i = facts %}{{ i | string | length }}{% endfor %}",
        "{% for c in facts %}{{ facts.values() | list | string | length }}{% endfor %}",
        "{% for c in facts %}" + "{{ note.lower() | length }}" * 900 + "{% endfor %}",
        "{% for c in facts %}" + "{% if note[1:][1:] %}{% endif %}" * 900 + "{% endfor %}",
        "{% for c in facts %}" + "{% if c in note ~ note %}{% endif %}" * 900 + "{% endfor %}",
        "{{ (" + " ~ ".join(["note"] * 3000) + ") | upper | length }}",
        "{% for c in facts %}{{ facts['fact 1'][facts | string | length] }}{% endfor %}",
    ],
)
def test_what_a_caller_says_makes_no_render_long_or_large(
    tmp_path: Path, source: str, facts: dict[str, object]
) -> None:
    (tmp_path / "default.j2").write_text(source)
    prompts = Prompts(tmp_path)
    values = {"facts": facts, "note": "x" * 8000}
    started = time.process_time()
    prompt = prompts.of(None).render(values)
    assert time.process_time() - started < 1
    assert len(prompt) in (0, MAX_PROMPT_CHARACTERS)
    tracemalloc.start()
    prompts.of(None).render(values)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 16_000_000


def test_each_render_has_its_own_budget(tmp_path: Path) -> None:
    (tmp_path / "default.j2").write_text("{{ note | upper | length }}")
    prompts = Prompts(tmp_path)
    assert {prompts.of(None).render({"note": "x" * 60_000}) for _ in range(5)} == {"60000"}
    assert prompts.of(None).render({"note": "x" * 120_000}) == ""


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("{% for c in note %}{{ c }}{% endfor %}.", "."),
        ("{% for n in many %}{{ n }} {% endfor %}", " ".join(map(str, range(100)))),
        ("{% for n in many if n is odd %}{% if loop.last %}{{ loop.index }}: {{ n }}{% endif %}{% endfor %}", "50: 99"),
        ("{% for name in deep %}{{ loop.index }} of {{ loop.length }}: {{ name }}{% endfor %}", "1 of 1: address"),
        ("{{ deep.address.city | upper }} {{ deep['address'].get('city')[:2].lower() }}", "BERLIN be"),
        ("{% for a in [deep, deep] %}{{ a.address.city }}{% else %}none{% endfor %}", "BerlinBerlin"),
        ("{{ 'yes' if deep.address.city == 'Berlin' and not deep.street else 'no' }}", "yes"),
        ("{{ many[many | length - 1] }} {{ many[-2:] | join('+') }} {{ note[many[1]:][:1] }}", "499 498+499 o"),
        ("{{ deep.address.items() | list | tojson }}", '[["city", "Berlin"]]'),
    ],
)
def test_what_is_charged_says_the_same(tmp_path: Path, source: str, prompt: str) -> None:
    values = {"note": "no", "many": [*range(500)], "deep": {"address": {"city": "Berlin"}}}
    assert rendered(tmp_path, source, **values) == prompt


def test_a_prompt_has_an_end(tmp_path: Path) -> None:
    assert len(rendered(tmp_path, "{{ x }}" * 10, x="y" * 8000)) == MAX_PROMPT_CHARACTERS


def test_a_template_that_is_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "default.j2"
    assert refusal(tmp_path, "one\ntwo {% if %}").startswith(f"The prompt template {path} is wrong in line 2: ")
    assert f"{path} is wrong in line 1" in refusal(tmp_path, "{{ x | nofilter }}")
    assert refusal(tmp_path, "x" * 40_000) == f"The prompt template {path} is longer than 32768 characters."


def test_what_can_t_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"agent\.j2 can't be read"):
        Prompts(tmp_path)
    (tmp_path / "agent.j2").unlink()
    (tmp_path / "agent.j2").mkdir()
    with pytest.raises(SettingsError, match=r"agent\.j2 can't be read"):
        Prompts(tmp_path)
    with pytest.raises(SettingsError, match=r"RINGLOG_PROMPTS_DIR is wrong: .*nowhere is not a folder"):
        Prompts(tmp_path / "nowhere")
