"""Which dialplan a call gets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.dialplan.matching import share_of
from tests.dialplan.support import NOW, facts, loaded

ELSE = 'greeting = "Everything else."'


def chosen(folder: Path, match: str, at: datetime = NOW, **known: Any) -> bool:
    """Whether a dialplan with this match gets the call."""
    return loaded(folder, it=f"match = {{ {match} }}", rest=ELSE).route(facts(**known), at).chosen == "it"


@pytest.mark.parametrize(
    ("match", "known", "yes"),
    [
        ('called = "+49 30 1234567"', {}, True),
        ('called = "+49 30 7"', {}, False),
        ('called = ["100", "+49*"]', {}, True),
        ('called = "+49 30 12345??"', {}, True),
        ('called = "SALES"', {"called": "sales"}, True),
        ('called = "sip:sales"', {"called": "sales"}, True),
        ('caller = "anonymous"', {"caller": ""}, True),
        ('caller = "anonymous"', {}, False),
        ('domain = "*.example.com"', {"domain": "berlin.example.com"}, True),
        ('domain = "*.example.com"', {}, False),
        ('trunk = "10.0.0.0/8"', {}, True),
        ('trunk = "10.0.0.0/8"', {"peer": "192.168.1.1:5060"}, False),
        ('trunk = "fd00::/8"', {"peer": "[fd00::1]:5060"}, True),
        ('trunk = "carrier"', {"trunk": "carrier"}, True),
        ('ingress = ["twilio", "telnyx"]', {"ingress": "twilio"}, True),
        ('ingress = "twilio"', {}, False),
        ('headers.X-Tenant = "acme"', {"headers": {"x-tenant": "Acme"}}, True),
        ('headers.X-Tenant = "*"', {}, False),
        ('parameters.plan = "gold*"', {"parameters": {"plan": "gold-2"}}, True),
        ('direction = "out"', {}, False),
        ('direction = "out"', {"direction": "out"}, True),
        ('called = "+49*", caller = "+44*"', {}, False),
    ],
)
def test_fields(tmp_path: Path, match: str, known: dict[str, Any], yes: bool) -> None:
    assert chosen(tmp_path, match, **known) is yes


class TestOrder:
    def test_priority_before_everything(self, tmp_path: Path) -> None:
        plans = loaded(
            tmp_path,
            exact='match.called = "+49301234567"',
            loud='match = { ingress = "sip", priority = 5 }',
            quiet='match = { called = "+49*", priority = -5 }',
            rest=ELSE,
        )
        route = plans.route(facts(), NOW)
        assert [one.name for one in route.verdicts] == ["loud", "exact", "rest", "quiet"]
        assert route.lines()[1] == "exact: would match, but loud has priority 5 against 0"

    def test_then_who_says_more(self, tmp_path: Path) -> None:
        plans = loaded(
            tmp_path,
            a='match.called = "+49*"',
            b='match.called = "+4930*"',
            c='match.called = "+49301234567"',
            d='match.caller = "+493012345"',
            e='match = { called = "+4930*", ingress = "sip" }',
            rest=ELSE,
        )
        route = plans.route(facts(), NOW)
        assert [one.name for one in route.verdicts] == ["c", "e", "b", "a", "d", "rest"]
        assert route.lines()[2] == "b: would match, but c says more about `called`"

    def test_why_not(self, tmp_path: Path) -> None:
        plans = loaded(tmp_path, it='match = { called = "100", ingress = "twilio" }', rest=ELSE)
        route = plans.route(facts(), NOW)
        assert route.chosen == "rest"
        assert route.lines() == [
            "it: no: called: '+49301234567' is not '100'; ingress: 'sip' is not 'twilio'",
            "rest: yes",
        ]

    def test_nobody(self, tmp_path: Path) -> None:
        assert loaded(tmp_path, it='match.called = "100"').plan_for(facts(), NOW) is None


class TestHours:
    OFFICE = 'hours = { zone = "Europe/Berlin", open = ["Mon-Fri 09:00-17:00"], closed = ["12-24..01-01"] }'

    @pytest.mark.parametrize(
        ("at", "yes"),
        [
            (datetime(2026, 7, 6, 7, 0, tzinfo=UTC), True),  # 09:00 in summer.
            (datetime(2026, 7, 6, 6, 59, tzinfo=UTC), False),
            (datetime(2026, 11, 23, 7, 30, tzinfo=UTC), False),  # 08:30 in winter.
            (datetime(2026, 11, 23, 8, 0, tzinfo=UTC), True),
            (datetime(2026, 11, 23, 16, 0, tzinfo=UTC), False),  # 17:00: closed from then on.
            (datetime(2026, 11, 22, 10, 0, tzinfo=UTC), False),  # A Sunday.
            (datetime(2026, 12, 28, 10, 0, tzinfo=UTC), False),  # Holidays over the turn of the year.
            (datetime(2027, 1, 1, 10, 0, tzinfo=UTC), False),
            (datetime(2027, 1, 4, 10, 0, tzinfo=UTC), True),
        ],
    )
    def test_in_their_own_zone_with_summer_time_and_holidays(
        self, tmp_path: Path, at: datetime, yes: bool
    ) -> None:
        assert chosen(tmp_path, self.OFFICE, at) is yes

    @pytest.mark.parametrize(
        ("at", "yes"),
        [
            (datetime(2026, 11, 27, 23, 0, tzinfo=UTC), True),  # Friday night.
            (datetime(2026, 11, 28, 1, 59, tzinfo=UTC), True),  # Still Friday's.
            (datetime(2026, 11, 28, 2, 0, tzinfo=UTC), False),
            (datetime(2026, 11, 27, 1, 0, tzinfo=UTC), False),  # Thursday's night is not open.
        ],
    )
    def test_over_midnight_they_belong_to_the_day_they_began(
        self, tmp_path: Path, at: datetime, yes: bool
    ) -> None:
        assert chosen(tmp_path, 'hours = { open = ["Fri 22:00-02:00"] }', at) is yes

    @pytest.mark.parametrize(("utc_hour", "yes"), [(0, True), (1, True), (2, False)])
    def test_the_hour_that_comes_twice(self, tmp_path: Path, utc_hour: int, yes: bool) -> None:
        match = 'hours = { zone = "Europe/Berlin", open = ["Sun 02:00-02:30"] }'  # On 25 October both times.
        assert chosen(tmp_path, match, datetime(2026, 10, 25, utc_hour, 15, tzinfo=UTC)) is yes

    def test_named_and_not(self, tmp_path: Path) -> None:
        text = 'hours.day.open = ["08:00-20:00"]\nmatch.hours = '
        for name, wanted in (("day", "it"), ("not day", "rest")):
            plans = loaded(tmp_path, it=f'{text}"{name}"', rest=ELSE)
            assert plans.route(facts(), NOW).chosen == wanted


class TestShare:
    def test_a_caller_keeps_its_side_however_the_number_is_written(self, tmp_path: Path) -> None:
        plans = loaded(tmp_path, a="match.share = 50", b='match.share = "50-100"')
        for number in range(40):
            sides = {
                plans.route(facts(caller=caller, call_id=call), NOW).chosen
                for caller in (f"+49 30 {number:04}", f"+4930{number:04}")
                for call in ("one", "two")
            }
            assert len(sides) == 1

    def test_by_call_it_changes(self, tmp_path: Path) -> None:
        plans = loaded(tmp_path, a='match.share = { percent = "0-50", by = "call" }', b=ELSE)
        assert {plans.route(facts(call_id=f"c{index}"), NOW).chosen for index in range(40)} == {"a", "b"}

    def test_it_is_the_same_in_every_version(self) -> None:
        assert round(share_of("", "+493012345"), 3) == 58.194

    @given(name=st.text(max_size=9), key=st.text(max_size=20))
    def test_it_is_a_part_of_100(self, name: str, key: str) -> None:
        assert 0 <= share_of(name, key) < 100
