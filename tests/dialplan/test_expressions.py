"""Templates and conditions: what they can say, and that they can do no harm."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.dialplan.expressions import BadExpression, parse
from telbridge.dialplan.rules import SpeechRule
from telbridge.dialplan.templates import compiled, literal, rendered
from telbridge.dialplan.values import FILTERS, LONGEST, Masked, from_outside

SCOPE: dict[str, Any] = {
    "caller": "+493012345", "vars": {"name": "ann lee", "tries": 2, "from": "Bonn"},
    "digits": {"pin": Masked("4711")},
    "headers": {"X-Tenant": "acme", "From": "<sip:a@b>"},
    "answers": {"crm": {"plan": {"name": "gold"}, "list": [1, 2]}},
    "calls_before": 3, "hours": {"office": True}, "duration_s": 12,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ caller | last(4) }}", "2345"),
        ("{{ vars.name | title }}!", "Ann Lee!"),
        ("{{ vars.nothing or 'guest' }}", "guest"),
        ("{{ vars.nothing | default('guest') }}", "guest"),
        ("{{ vars.tries + 1 }}", "3"),
        ("{{ 'open' if hours.office else 'closed' }}", "open"),
        ("{{ headers['x-tenant'] }} {{ headers.x_tenant }}", "acme acme"),
        ("{{ headers.from }} {{ vars.from }}", "<sip:a@b> Bonn"),
        ("{{ answers.crm.plan.name }} {{ answers.crm.no.such }}", "gold "),
        ("{{ answers.crm.list }}", "[1, 2]"),
        ("{{ caller | first(3) == '+49' }}", "true"),
        ("{{ digits.pin }} {{ digits.pin | last(2) }} {{ digits.pin + '' }}", "**** **** ****"),
        ("{{ 'it''s' }} {{ 'a.if' }}", "its a.if"),
        ("no holes", "no holes"),
    ],
)  # fmt: skip
def test_texts(text: str, shown: str) -> None:
    assert compiled(text).text(SCOPE) == shown


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("calls_before > 2 and hours.office", True),
        ("'12' in caller", True),
        ("vars.tries in [1, 2]", True),
        ("vars.tries == '2'", True),
        ("digits.pin == '4711'", True),
        ("digits.pin == '0000'", False),
        ("not digits.none", True),
        ("1 < vars.tries < 3", True),
        ("vars.name > 3", False),
        ("none == false", False),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    assert parse(condition).holds(SCOPE) is holds


@pytest.mark.parametrize(
    "source",
    [
        "__import__('os')", "open('x')", "caller.format(1)", "().__class__", "[x for x in caller]",
        "lambda: 1",
        "vars['a' + 'b']", "f'{caller}'", "caller[0:2]", "2 ** 99999", "'a' * 99999",
        "x := 1", "caller | no", "",
        "caller | last", "caller | last(1, 2)", "caller |", "b'x'", "1j", "9" * 40,
        "caller | last(n=2)", "a.b().c",
        "not " * 60 + "x", "(" * 150 + "x" + ")" * 150,
    ],
)  # fmt: skip
def test_what_is_more_than_an_expression_is_refused(source: str) -> None:
    with pytest.raises(BadExpression):
        parse(source)


@pytest.mark.parametrize("name", ["__class__", "secret", "__dict__", "keys", "_abc"])
@pytest.mark.parametrize("root", ["caller", "vars", "digits.pin", "calls_before", "answers.crm.list"])
def test_nothing_of_python_is_reached(root: str, name: str) -> None:
    assert parse(f"{root}.{name}").value(SCOPE) is None


def test_a_text_from_outside_is_no_template() -> None:
    assert literal("{{ caller }}").text(SCOPE) == "{{ caller }}"
    assert compiled("{{ vars.name }}").text({"vars": {"name": "{{ caller }}"}}) == "{{ caller }}"


def test_what_fills_a_url_stays_in_its_place() -> None:
    assert (
        compiled("https://x/{{ a }}?b={{ a }}").url({"a": "../&ü\ud800"})
        == "https://x/..%2F%26%C3%BC%3F?b=..%2F%26%C3%BC%3F"
    )


def test_the_length_is_bounded() -> None:
    long = {"a": "x" * 15_000}
    assert len(compiled("{{ a }}" * 50).text(long)) <= LONGEST
    assert len(str(parse("a + a + a + a").value(long))) <= LONGEST


def test_sums_cannot_grow_without_an_end() -> None:
    value: Any = 2
    started = time.monotonic()
    for _ in range(5000):
        value = parse("a + a").value({"a": value})
    assert len(str(value)) <= LONGEST
    assert time.monotonic() - started < 5


def test_masked_digits_stay_masked_unless_they_are_revealed_on_their_own() -> None:
    tree = {"pin": "{{ digits.pin }}", "text": "it is {{ digits.pin }}"}
    assert rendered(tree, SCOPE) == {"pin": "****", "text": "it is ****"}
    shown = rendered(tree, SCOPE, reveal=True)
    assert (shown["pin"], shown["text"]) == (Masked("4711"), "it is ****")
    assert "4711" not in repr(shown)


names = st.sampled_from(
    ["caller", "vars.name", "vars.tries", "digits.pin", "answers.crm", "answers.crm.list", "x.y"]
)
words = names | st.sampled_from(["'a'", "1", "-2.5", "true", "none", "[1, 'a']", "''"])
expressions = st.recursive(
    words,
    lambda inner: st.one_of(
        st.tuples(
            inner, st.sampled_from(["+", "-", "==", "!=", "<", ">=", "in", "not in", "and", "or"]), inner
        ).map(" ".join),
        inner.map("not ({})".format),
        inner.map("-({})".format),
        st.tuples(inner, inner, inner).map(lambda three: f"({three[0]}) if ({three[1]}) else ({three[2]})"),
        st.tuples(inner, st.sampled_from([name for name, one in FILTERS.items() if not one.arguments])).map(
            lambda pair: f"(({pair[0]}) | {pair[1]})"
        ),
        st.tuples(inner, st.sampled_from(["first", "last", "default"]), words).map(
            lambda three: f"(({three[0]}) | {three[1]}({three[2]}))"
        ),
    ),
    max_leaves=8,
)
outside = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=10)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(source=expressions, answer=outside, name=st.text(st.characters(), max_size=20))
def test_evaluating_never_raises_and_shows_no_masked_digits(source: str, answer: Any, name: str) -> None:
    scope = {**SCOPE, "answers": {"crm": from_outside(answer)}, "vars": {"name": name, "tries": 10**15}}
    try:
        template = compiled(f"{{{{ {source} }}}}")
    except BadExpression:
        return  # Too long.
    shown = template.text(scope)
    template.url(scope)
    shown.encode("utf-8")
    assert "4711" not in shown or "4711" in name or "4711" in str(answer)


class TestPatterns:
    @pytest.mark.parametrize(
        "pattern",
        [
            "(talk|speak) to (a human|somebody)",
            r"\bno\b",
            "order.*pizza",
            r"(?:yes )?please",
            "[+*]",
            r"\d{4}",
            "a|b",
        ],
    )
    def test_ordinary_ones_are_taken(self, pattern: str) -> None:
        SpeechRule.model_validate({"matches": pattern, "do": "reply"})

    @pytest.mark.parametrize(
        "pattern",
        [
            "(a+)+$",
            "(a|aa)+$",
            "(a|a)*b",
            "(.*)*x",
            "((a+)b?)+c",
            r"(\w+\s?)*$",
            ".*a.*b.*c.*d",
            "(a{1,9}){9}",
            "((",
        ],
    )
    def test_those_that_can_take_for_ever_are_refused(self, pattern: str) -> None:
        with pytest.raises(ValueError, match="matches"):
            SpeechRule.model_validate({"matches": pattern, "do": "reply"})

    @given(pattern=st.text("ab.*+?(|)[]{}12,\\^$", max_size=14), text=st.text("ab12 ", max_size=1500))
    def test_what_is_taken_is_fast(self, pattern: str, text: str) -> None:
        try:
            rule = SpeechRule.model_validate({"matches": pattern, "do": "reply"})
        except ValueError:
            return
        started = time.monotonic()
        rule.found_in(text)
        assert time.monotonic() - started < 2
