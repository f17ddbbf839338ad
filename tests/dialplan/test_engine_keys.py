"""Keys: presses, sequences, contexts, menus, collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from telbridge.dialplan import orders
from telbridge.dialplan.inputs import Done, Key
from tests.dialplan.line import Line, kinds, only, said
from tests.dialplan.support import plan


def test_a_bound_key_changes_the_session(tmp_path: Path) -> None:
    line = Line(plan(tmp_path, 'keys.1 = [{ update.instructions = "Speak to {{ caller }}." }, "reply"]'))
    found = line.key("1")
    assert kinds(found) == ["Update", "Reply"]
    update = only(found, orders.Update)
    assert update.wanted.neutral.instructions == "Speak to +493012345."
    assert update.wanted.neutral.model_fields_set == {"instructions"}


def test_vendor_fields_go_to_the_agent_of_now_only(tmp_path: Path) -> None:
    text = """
    keys.1 = { update = { openai_realtime = { speed = 1.2 }, deepgram = { agent.think.prompt = "x" } } }
    keys.2 = { switch_agent = "deepgram" }
    """
    line = Line(plan(tmp_path, text))
    assert only(line.key("1"), orders.Update).wanted.vendor == {"speed": 1.2}
    switch = only(line.key("2"), orders.SwitchAgent)
    assert switch.wanted.agent == "deepgram"
    line.done(switch)
    assert only(line.key("1"), orders.Update).wanted.vendor == {"agent": {"think": {"prompt": "x"}}}


class TestOnePress:
    """However many methods tell of it."""

    def presses(self, tmp_path: Path, *told: tuple[float, str, str]) -> int:
        line = Line(plan(tmp_path, 'keys.1 = { tag = "one" }\nkeys.2 = { tag = "two" }'))
        found = []
        for at_s, digit, method in told:
            line.now_s = at_s
            found += line.put(Key(digit, method))
        return kinds(found).count("Tag")

    def test_two_methods_are_one_press(self, tmp_path: Path) -> None:
        assert self.presses(tmp_path, (1, "1", "rfc4733"), (1.04, "1", "info"), (1.3, "1", "inband")) == 1

    def test_one_method_twice_is_two_presses(self, tmp_path: Path) -> None:
        assert self.presses(tmp_path, (1, "1", "rfc4733"), (1.15, "1", "rfc4733")) == 2

    def test_two_quick_presses_told_twice_are_two(self, tmp_path: Path) -> None:
        told = [(1.0, "1", "rfc4733"), (1.04, "1", "info"), (1.2, "1", "rfc4733"), (1.24, "1", "info")]
        assert self.presses(tmp_path, *told) == 2

    def test_late_reports_come_in_the_order_of_the_presses(self, tmp_path: Path) -> None:
        told = [(1.0, "1", "rfc4733"), (1.2, "2", "rfc4733"), (1.3, "1", "info"), (1.5, "2", "info")]
        assert self.presses(tmp_path, *told) == 2

    def test_after_a_while_it_is_another_press(self, tmp_path: Path) -> None:
        assert self.presses(tmp_path, (1, "1", "rfc4733"), (2, "1", "info")) == 2


class TestWhatTheAgentLearns:
    def test_an_unbound_key_is_told(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'keys.1 = "reply"'))
        told = only(line.key("5"), orders.SendText)
        assert (told.text, told.as_caller, told.answer) == ("[DTMF] caller pressed 5", True, True)

    def test_unless_the_dialplan_says_no(self, tmp_path: Path) -> None:
        assert Line(plan(tmp_path, "dtmf.tell_agent = false")).key("5") == []

    def test_other_takes_it_instead(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'keys.other = { say = "There is no {{ key }}." }'))
        assert said(line.key("5")) == ["There is no 5."]


class TestInterruption:
    def test_a_key_stops_the_agent(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'keys.1 = "reply"'))
        line.event("agent_speaking")
        assert kinds(line.key("1")) == ["StopSpeech", "Reply"]

    def test_or_not(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'keys.1 = { do = "reply", interrupt = false }'))
        line.event("agent_speaking")
        assert kinds(line.key("1")) == ["Reply"]

    def test_nothing_to_stop(self, tmp_path: Path) -> None:
        assert kinds(Line(plan(tmp_path, 'keys.1 = "reply"')).key("1")) == ["Reply"]


class TestSequences:
    TEXT = """
    dtmf.between_s = 1.0
    dtmf.total_s = 3.0
    keys.1 = { tag = "one" }
    keys.12 = { tag = "twelve" }
    keys."*99#" = { tag = "secret" }
    """

    def tags(self, line: Line, digits: str, pause_s: float = 0.3, after_s: float = 10) -> list[str]:
        found = line.key(digits, pause_s=pause_s) + line.wait(after_s)
        return [one.text for one in found if isinstance(one, (orders.Tag, orders.SendText))]

    def test_the_longer_one_wins_when_it_comes_in_time(self, tmp_path: Path) -> None:
        assert self.tags(Line(plan(tmp_path, self.TEXT)), "12") == ["twelve"]

    def test_the_shorter_one_when_nothing_follows(self, tmp_path: Path) -> None:
        assert self.tags(Line(plan(tmp_path, self.TEXT)), "1") == ["one"]

    def test_the_shorter_one_when_another_key_follows(self, tmp_path: Path) -> None:
        assert self.tags(Line(plan(tmp_path, self.TEXT)), "13") == ["one", "[DTMF] caller pressed 3"]

    def test_four_keys(self, tmp_path: Path) -> None:
        assert self.tags(Line(plan(tmp_path, self.TEXT)), "*99#") == ["secret"]

    def test_a_sequence_that_stays_unfinished_is_told_key_by_key(self, tmp_path: Path) -> None:
        told = ["[DTMF] caller pressed *", "[DTMF] caller pressed 9"]
        assert self.tags(Line(plan(tmp_path, self.TEXT)), "*9") == told

    def test_it_has_a_total_time(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT.replace("total_s = 3.0", "total_s = 1.5")))
        assert "secret" not in self.tags(line, "*99#", pause_s=0.9)


class TestContexts:
    TEXT = """
    keys.1 = { goto = "orders" }
    keys.0 = { tag = "operator" }
    [contexts.orders]
    enter = { say = "Orders." }
    keys.1 = { tag = "new order" }
    keys."*" = { goto = "main" }
    [contexts.open]
    inherit = true
    enter = { goto = "orders" }
    """

    def test_a_key_means_what_its_context_says(self, tmp_path: Path) -> None:
        line = Line(
            plan(
                tmp_path,
                self.TEXT.replace('[contexts.open]\n    inherit = true\n    enter = { goto = "orders" }', ""),
            )
        )
        assert said(line.key("1")) == ["Orders."]
        assert only(line.key("1"), orders.Tag).text == "new order"
        assert kinds(line.key("0")) == ["SendText"]
        line.key("*")
        assert only(line.key("0"), orders.Tag).text == "operator"

    def test_contexts_in_a_circle_end(self, tmp_path: Path) -> None:
        text = """
        keys.1 = { goto = "a" }
        contexts.a.enter = { goto = "b" }
        contexts.b.enter = { goto = "a" }
        """
        assert "Note" in kinds(Line(plan(tmp_path, text)).key("1"))

    def test_what_a_context_had_begun_ends_with_it(self, tmp_path: Path) -> None:
        text = """
        start = "a"
        contexts.a.enter = [{ say = "A long story." }, { say = "Its end." }]
        contexts.a.keys.1 = { goto = "main" }
        """
        line = Line(plan(tmp_path, text), slow=True)
        story = line.all[-1]
        assert kinds(line.key("1")) == ["StopSpeech"]
        assert line.put(Done(story.id)) == []


class TestMenus:
    TEXT = """
    start = "menu"
    [contexts.menu]
    menu.prompt = "One or two?"
    menu.invalid = "Not on the menu."
    menu.timeout_s = 5
    menu.tries = 3
    menu.failed = "hangup"
    keys.1 = { tag = "one" }
    keys.2 = [{ tag = "two" }, { goto = "main" }]
    """

    def test_it_asks(self, tmp_path: Path) -> None:
        assert said(Line(plan(tmp_path, self.TEXT)).all) == ["One or two?"]

    def test_it_asks_again_after_silence_then_gives_up(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert said(line.wait(5.1)) == ["Not on the menu. One or two?"]
        assert said(line.wait(5.1)) == ["Not on the menu. One or two?"]
        assert kinds(line.wait(5.1)) == ["HangUp"]

    def test_a_wrong_key_is_a_try(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert said(line.key("7")) == ["Not on the menu. One or two?"]
        line.key("7")
        assert kinds(line.key("7")) == ["HangUp"]

    def test_the_time_runs_from_the_end_of_the_prompt(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT), slow=True)
        prompt = only(line.all, orders.Say)
        assert line.wait(20) == []
        line.put(Done(prompt.id))
        assert said(line.wait(5.1)) == ["Not on the menu. One or two?"]

    def test_after_a_key_that_stays_it_asks_anew(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert kinds(line.key("1")) == ["Tag", "Say"]

    def test_a_key_that_leaves_ends_it(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert kinds(line.key("2")) == ["Tag"]
        assert line.wait(60) == []


class TestCollecting:
    TEXT = """
    keys.9 = [
      { collect = "account", prompt = "Your number?", invalid = "Once more.", min = 3, max = 6, end = "#",
        first_s = 8, between_s = 4, total_s = 20, tries = 2, on_error = { tag = "failed" } },
      { tag = "{{ digits.account }}" },
    ]
    """.replace(",\n        first_s", ", first_s")

    @pytest.fixture
    def line(self, tmp_path: Path) -> Line:
        line = Line(plan(tmp_path, self.TEXT))
        assert said(line.key("9")) == ["Your number?"]
        line.wait(1)
        return line

    def test_the_terminator_ends_it(self, line: Line) -> None:
        assert only(line.key("1234#"), orders.Tag).text == "1234"

    def test_the_last_possible_digit_ends_it(self, line: Line) -> None:
        assert only(line.key("123456"), orders.Tag).text == "123456"

    def test_a_pause_ends_it_when_enough_came(self, line: Line) -> None:
        assert line.key("123") == []
        assert only(line.wait(4.1), orders.Tag).text == "123"

    def test_too_few_are_asked_for_again(self, line: Line) -> None:
        assert said(line.key("12#")) == ["Once more. Your number?"]
        assert only(line.key("777#"), orders.Tag).text == "777"

    def test_no_digit_at_all(self, line: Line) -> None:
        assert said(line.wait(8)) == ["Once more. Your number?"]
        assert only(line.wait(8.1), orders.Tag).text == "failed"

    def test_a_try_has_a_total_time(self, tmp_path: Path) -> None:
        line = Line(
            plan(tmp_path, self.TEXT.replace("max = 6", "max = 60").replace("total_s = 20", "total_s = 5"))
        )
        line.key("9")
        line.wait(1)
        found = line.key("1111111", pause_s=1.0)
        assert only(found, orders.Tag).text in ("1111", "11111")

    def test_the_first_digit_stops_the_prompt(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT), slow=True)
        line.key("9")
        line.wait(1)
        assert kinds(line.key("1")) == ["StopSpeech"]
        assert only(line.key("23#"), orders.Tag).text == "123"

    def test_two_at_a_time_are_refused(self, tmp_path: Path) -> None:
        text = """
        on.hold = [{ collect = "a" }, { tag = "a" }]
        on.resume = { collect = "b", on_error = { tag = "no" } }
        """
        line = Line(plan(tmp_path, text))
        line.event("hold")
        assert only(line.event("resume"), orders.Tag).text == "no"


class TestMaskedDigits:
    TEXT = """
    [[keys.1]]
    do = [
      { collect = "pin", masked = true, min = 4, max = 4, prompt = "PIN?", tries = 2, on_error = "stop" },
      { webhook = "https://crm.example/pin", send.pin = "{{ digits.pin }}", reveal = ["pin"] },
      { tag = "right", when = "digits.pin != '0000'" },
      { set.done = true },
    ]
    """

    def test_they_can_be_compared_and_sent_where_the_dialplan_says_so(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        line.key("1")
        line.wait(1)
        hook = only(line.key("7391"), orders.CallWebhook)
        assert hook.body["pin"] == "7391"
        assert only(line.done(hook, {}), orders.Tag).text == "right"

    def test_they_are_seen_nowhere_else(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        line.key("1")
        line.wait(1)
        line.key("7391")
        assert "7391" not in repr(line.all)
        assert "7391" not in repr(line.state)

    def test_while_they_are_keyed_in_nobody_listens(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert only(line.key("1"), orders.Discreet).on
        line.wait(1)
        found = line.key("73#")
        assert not [one for one in found if isinstance(one, orders.Discreet)], "it is asked for again"
        assert not only(line.key("7391"), orders.Discreet).on

    def test_keys_right_after_them_may_still_belong_to_them(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        line.key("1")
        line.wait(1)
        line.key("7391")
        line.wait(0.5)
        assert line.key("55#") == []
        line.wait(10)
        assert kinds(line.key("5")) == ["SendText"]

    def test_told_to_the_agent_only_if_said_so(self, tmp_path: Path) -> None:
        text = 'keys.1 = { collect = "zip", masked = true, max = 2, tell_agent = true }'
        line = Line(plan(tmp_path, text))
        line.key("1")
        line.wait(1)
        told = only(line.key("42"), orders.SendText)
        assert ("42" in told.text, told.secret, "42" in repr(told)) == (True, True, False)
