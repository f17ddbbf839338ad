"""The receptionist of the shipped script, and what is said about a script with faults."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from telbridge.agent import understanding as u
from telbridge.agent.brains.receptionist import ReceptionistTalker, load_receptionist
from telbridge.agent.brains.talking import (
    Asked,
    CallTool,
    Idle,
    Prompt,
    Say,
    Spoken,
    Typed,
    Unclear,
    verbatim,
)
from telbridge.agent.toml_file import ScriptError

FRIDAY_NOON = datetime(2026, 11, 20, 12, 5)
Says = Callable[[str], str]


class Desk:
    """A conversation with the shipped receptionist."""

    def __init__(self) -> None:
        self._talker = ReceptionistTalker(load_receptionist(None), now=lambda: FRIDAY_NOON)
        self.called: tuple[str, ...] = ()

    def on(self, prompt: Prompt) -> str:
        parts = self._talker.reply(prompt)
        self.called = next((part.names for part in parts if isinstance(part, CallTool)), ())
        return " ".join(part.text for part in parts if isinstance(part, Say))

    def hears(self, text: str) -> str:
        return self.on(Spoken(text))


def test_it_greets_first() -> None:
    assert Desk().on(Asked(None)).startswith("Thank you for calling Harbour Restaurant.")


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("What are your opening hours?", "Today is Friday and we are open from 11:30 AM to 11 PM."),
        ("Hi, uh, how late are you open tonight?", "Today is Friday"),
        ("Where can I find you?", "twelve Harbour Street"),
        ("Can you tell me what time it is?", "It is 12:05 PM."),
        ("Hello, can you hear me?", "I can hear you"),
        ("Do you have something vegetarian?", "two dishes without meat"),
        ("I would like to book a table.", "For how many people?"),
    ],
)
def test_it_answers_what_is_in_the_script(said: str, answered: str) -> None:
    assert answered in Desk().hears(said)


def test_a_booking_asks_for_what_is_missing_and_reads_it_back() -> None:
    desk = Desk()
    assert desk.hears("I'd like to book a table for two on Saturday.") == "And at what time?"
    assert desk.hears("Half past seven.") == "Under what name, please?"
    assert desk.hears("My name is Maria Lopez.") == (
        "A table for 2, Saturday, half past 7, under the name Maria Lopez. Is that right?"
    )
    assert desk.hears("Yes, please.").startswith("Wonderful, your table is booked.")


def test_a_booking_that_is_not_right_starts_again() -> None:
    desk = Desk()
    for text in ("Book a table for four tomorrow at 8 PM", "John"):
        answer = desk.hears(text)
    assert answer.endswith("Is that right?")
    assert desk.hears("No, that's wrong.") == "For how many people?"


def test_keys_mean_intents_and_fill_slots() -> None:
    desk = Desk()
    assert desk.on(Typed("[DTMF] caller pressed 2")) == "For how many people?"
    assert desk.on(Typed("[DTMF] caller pressed 5")) == "What day would you like?"
    assert (
        desk.on(Typed("[DTMF] caller pressed 0"))
        == "Sorry, which day was that? You can say, for example, Friday or tomorrow."
    )


def test_a_request_can_be_left_for_another() -> None:
    desk = Desk()
    desk.hears("I want to reserve a table")
    assert "I will connect you" in desk.hears("Can I speak to a person?")
    assert "transfer_call" in desk.called


def test_repeat_says_the_last_answer_again() -> None:
    desk = Desk()
    answer = desk.hears("where are you")
    assert desk.hears("Can you repeat that?") == answer
    assert desk.on(Typed("[DTMF] caller pressed *")) == answer


def test_not_understood_twice_is_the_polite_way_out() -> None:
    desk = Desk()
    assert desk.hears("Purple elephants dream sideways.").startswith("Sorry, I did not catch that.")
    assert desk.on(Unclear()).startswith("I am sorry, I still did not understand.")
    assert "connect you with a colleague" in desk.hears("Quantum marmalade.")
    assert desk.called


def test_understanding_something_forgives_what_came_before() -> None:
    desk = Desk()
    desk.on(Unclear())
    desk.on(Unclear())
    desk.hears("What are your hours?")
    assert desk.on(Unclear()).startswith("Sorry, I did not catch that.")


def test_goodbye_asks_the_client_to_hang_up() -> None:
    desk = Desk()
    assert desk.hears("That's all, thanks, good-bye.") == "Thank you for calling. Goodbye!"
    assert "hang_up" in desk.called
    assert desk.on(Idle()).startswith("Are you still there?")


@pytest.mark.parametrize(
    ("text", "bare", "day", "time", "number"),
    [
        ("a table for twenty two on Friday at seven", False, "Friday", "7 o'clock", "22"),
        ("tomorrow at 7:30 p.m. for a couple", False, "tomorrow", "7:30 PM", "2"),
        ("the 5th of June, at noon, just me", False, "June 5", "noon", "1"),
        ("three", True, None, "3 o'clock", "3"),
        ("next Monday", True, "next Monday", None, None),
        ("I like fish", False, None, None, None),
    ],
)
def test_slots(text: str, bare: bool, day: str | None, time: str | None, number: str | None) -> None:
    assert (u.day(text, bare=bare), u.time_of_day(text, bare=bare), u.number(text, bare=bare)) == (
        day,
        time,
        number,
    )


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        ('Say exactly: "Welcome to Acme."', "Welcome to Acme."),
        ("say exactly: Hello. It's me.", "Hello. It's me."),
        ("Say exactly “Bom dia”", "Bom dia"),
        ("Greet the caller.", None),
        (None, None),
    ],
)
def test_say_exactly(instructions: str | None, words: str | None) -> None:
    assert verbatim(instructions) == words


SCRIPT = """
business = "B"
greeting = "Hello."
not_understood = ["Pardon?"]
give_up = "Bye."
[intent.hours]
keywords = ["open"]
answer = "We are {open_now}."
"""


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (
            ("greeting", "greting"),
            ["greeting: is missing", "greting: no such setting; did you mean `greeting`?"],
        ),
        (("{open_now}", "{opennow}"), ["intent.hours.answer: nothing known for {opennow}"]),
        (('keywords = ["open"]', 'slots = ["day"]\nkey = "1"'), ["intent.hours.slots: no such slot: day"]),
        (
            ('keywords = ["open"]', ""),
            ["intent.hours: can never be meant: give `examples`, `keywords` or a `key`"],
        ),
        (
            ('keywords = ["open"]', 'key = "12"'),
            ["intent.hours.key: String should match pattern '^[0-9*#]$'"],
        ),
        (
            ("[intent", '[hours]\nmonday = "9-17"\n[intent'),
            ["hours: monday: neither `closed` nor like 09:00-17:30: 9-17"],
        ),
        (('business = "B"', 'business = "B"\ntimezone = "Mars"'), ["timezone: no such time zone: Mars"]),
        (
            ("[intent.hours]", "[intent.hours"),
            ["not valid TOML: Expected ']' at the end of a table declaration (at line 6, column 14)"],
        ),
    ],
)
def test_each_fault_of_a_script_is_one_clear_line(
    tmp_path: Path, change: tuple[str, str], lines: list[str]
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(SCRIPT.replace(*change))
    with pytest.raises(ScriptError) as caught:
        load_receptionist(path)
    assert caught.value.lines == [f"{path}: {line}" for line in lines]


def test_the_example_of_this_test_is_right(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(SCRIPT)
    assert load_receptionist(path).business == "B"
