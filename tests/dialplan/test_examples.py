"""The dialplans of the shelf: what a caller of each goes through."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from telbridge.dialplan import orders
from telbridge.dialplan.loader import load
from telbridge.sessions.dialplan_agents import DialplanAgents
from telbridge.sessions.providers import PROVIDERS
from tests.dialplan.line import Line, kinds, only, said
from tests.dialplan.support import ROOT, facts

SHELF = load(ROOT / "dialplans", DialplanAgents())
MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
NIGHT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)


def call(name: str, *, slow: bool = False, at: datetime = MONDAY, **known: Any) -> Line:
    return Line(SHELF.plan(name), facts(started_at=at, **known), slow=slow)


def tags(found: list[orders.Order]) -> list[str]:
    return [one.text for one in found if isinstance(one, orders.Tag)]


def chosen(at: datetime = MONDAY, **known: Any) -> str | None:
    return SHELF.route(facts(started_at=at, **known), at).chosen


class TestTogether:
    @pytest.mark.parametrize(
        ("called", "name"),
        [
            ("+49305550100", "ivr"), ("+49 (30) 5550-200", "support"), ("+49305550300", "bilingual"),
            ("+49305550400", "survey"), ("+49301234567", "receptionist"), ("alice", "receptionist"),
        ],
    )  # fmt: skip
    def test_each_has_its_own_number(self, called: str, name: str) -> None:
        assert chosen(called=called) == name

    def test_the_practice_has_a_machine_only_when_it_is_closed(self) -> None:
        assert chosen(called="+49305550500") == "receptionist"
        assert chosen(NIGHT, called="+49305550500") == "after_hours"

    def test_a_reminder_is_only_for_calls_of_ours(self) -> None:
        campaign = {"campaign": "reminder"}
        assert chosen(parameters=campaign) == "receptionist"
        assert chosen(parameters=campaign, direction="out") == "reminder"

    def test_the_trial_splits_the_callers_and_keeps_them(self) -> None:
        callers = [f"+4930{number}" for number in range(2000, 2400)]
        got = [chosen(called="+49305550600", caller=caller) for caller in callers]
        assert got == [chosen(NIGHT, called="+49305550600", caller=caller) for caller in callers]
        assert set(got) == {"trial_openai", "trial_deepgram"}
        assert 140 < got.count("trial_openai") < 260

    @pytest.mark.parametrize("agent", ["local", *PROVIDERS])
    def test_the_default_works_with_every_agent(self, agent: str) -> None:
        # Some APIs want an account's own names in the settings file, whatever the dialplan.
        needs = {"azure_voice_live": {"resource": "mine"},
                 "companion": {"companionId": "c", "providerConfig": {"voiceId": "alloy"}}}  # fmt: skip
        sections = {name: PROVIDERS[name].settings.model_validate(known) for name, known in needs.items()}
        agents = DialplanAgents(agent, sections=sections)
        assert load(ROOT / "dialplans" / "receptionist.toml", agents).plans


class TestReceptionist:
    def test_it_greets_and_knows_what_day_it_is(self) -> None:
        opening = SHELF.plan("receptionist").opening(facts(caller=""), MONDAY)
        assert opening.greeting_text == "Hello, this is telbridge. How can I help you?"
        asked = opening.wanted.neutral.instructions or ""
        assert "Monday, 10:30" in asked
        assert "number is unknown" in asked

    def test_who_is_silent_is_asked_once_then_let_go(self) -> None:
        line = call("receptionist")
        assert said(line.wait(20.1)) == ["Are you still there?"]
        assert only(line.wait(20.1), orders.HangUp).last_words.endswith("Good-bye.")

    def test_the_agent_may_hang_up(self) -> None:
        assert only(call("receptionist").tool("hang_up"), orders.HangUp).after_agent


class TestIvr:
    def test_a_key_chooses_what_the_agent_is_for(self) -> None:
        line = call("ivr")
        assert said(line.all)[0].startswith("Spree Cycles. For the shop press 1")
        found = line.key("2")
        update = only(found, orders.Update).wanted.neutral
        assert [tool.name for tool in update.tools or ()] == ["job_state", "connect_me"]
        assert kinds(found)[-2:] == ["Connect", "Reply"]

    def test_the_workshops_tool_is_not_there_for_the_shop(self) -> None:
        line = call("ivr")
        line.key("1")
        assert only(line.tool("job_state", '{"number": "7"}'), orders.ToolResult).failed
        line = call("ivr")
        line.key("2")
        request = only(line.tool("job_state", '{"number": "7"}'), orders.CallHttp)
        assert request.url == "https://workshop.spree-cycles.example/jobs/7"

    def test_the_address_is_told_and_the_menu_asks_again(self) -> None:
        words = said(call("ivr").key("3"))
        assert words[0].startswith("You find us at 12 Uferstrasse")
        assert words[1].startswith("Spree Cycles. For the shop")

    def test_who_presses_nothing_gets_the_agent(self) -> None:
        line = call("ivr")
        assert said(line.wait(5.1))[0].startswith("Sorry, that is not on the menu.")
        found = line.wait(5.1)
        assert (tags(found), kinds(found)[-2:]) == (["no choice"], ["Connect", "Reply"])

    def test_a_person_who_does_not_answer_leaves_the_agent(self) -> None:
        line = call("ivr")
        found = line.fail(only(line.key("0"), orders.Transfer), "480")
        assert said(found) == ["Nobody is free just now."]
        assert "Connect" in kinds(found)


class TestSupport:
    def pin(self, line: Line, digits: str = "4711#") -> orders.CallWebhook:
        line.wait(1)
        return only(line.key(digits), orders.CallWebhook)

    def test_the_pin_goes_to_the_crm_and_nowhere_else(self) -> None:
        line = call("support")
        assert said(line.all)[:2] == [
            "This call may be recorded.", "Welcome to Nordlicht. Please enter your PIN, then hash.",
        ]  # fmt: skip
        hook = self.pin(line)
        assert (hook.url, hook.body["pin"]) == ("https://crm.nordlicht.example/pin", "4711")
        found = line.done(hook, {"name": "Ann Lee", "model": "N7"})
        assert only(found, orders.SendText).text == "The caller is Ann Lee; the heating is a N7."
        assert kinds(found)[-1] == "Connect"
        assert "4711" not in repr(line.all)

    def test_a_wrong_pin_leads_to_a_person_in_office_hours(self) -> None:
        line = call("support")
        found = line.done(self.pin(line), {})
        assert said(found) == ["I don't know this PIN."]
        assert only(found, orders.Transfer).target == "sip:desk@10.0.0.5"

    def test_and_to_the_hours_out_of_them(self) -> None:
        line = call("support", at=NIGHT)
        found = line.done(self.pin(line), {})
        assert only(found, orders.HangUp).last_words.startswith("We are there from Monday")

    def test_with_no_crm_people_take_over(self) -> None:
        line = call("support")
        assert only(line.fail(self.pin(line), "503"), orders.Transfer)

    def test_no_pin_at_all(self) -> None:
        line = call("support")
        assert only(line.wait(40), orders.Transfer)

    def test_key_0_asks_for_a_person_and_the_agent_takes_the_call_back(self) -> None:
        line = call("support")
        line.done(self.pin(line), {"name": "Ann", "model": "N7"})
        line.wait(5)
        transfer = only(line.key("0"), orders.Transfer)
        assert kinds(line.event("transfer_failed", target="desk", cause="486", error="busy")) == ["Reply"]
        assert kinds(line.fail(transfer)) == []
        assert line.state.context == "agent"


class TestBilingual:
    @pytest.mark.parametrize(
        ("caller", "before", "words"),
        [
            ("+493012345", 0, "guten Tag"), ("+493012345", 2, "wieder anrufen"),
            ("+4420123", 1, "welcome back"), ("+4420123", 0, "good morning"), ("", 0, "good morning"),
        ],
    )  # fmt: skip
    def test_the_greeting_knows_country_and_guest(self, caller: str, before: int, words: str) -> None:
        made = SHELF.plan("bilingual").opening(facts(caller=caller, calls_before=before), MONDAY)
        assert words in made.greeting_text

    def test_a_key_changes_the_language(self) -> None:
        line = call("bilingual")
        found = line.key("1")
        assert (only(found, orders.Update).wanted.neutral.instructions or "").startswith(
            "From now on speak German"
        )
        assert kinds(found)[-1] == "Reply"
        assert tags(line.hang_up()) == ["language: de"]

    def test_asking_for_it_does_too_once(self) -> None:
        line = call("bilingual")
        assert only(line.event("caller_said", text="Sprechen Sie Deutsch?"), orders.Update)
        assert line.event("caller_said", text="Sprechen Sie Deutsch?") == []


class TestSurvey:
    def test_three_answers_then_the_agent_then_the_server(self) -> None:
        line = call("survey")
        assert said(line.key("1"))[0].startswith("How often")
        line.wait(1)
        assert said(line.key("12#")) == [
            "From 1, bad, to 5, very good: how helpful are the people at the desk?"
        ]
        line.wait(1)
        assert said(line.key("2"))[0] == "Then we are sorry to hear that."
        line.wait(1)
        found = line.key("4")
        assert (
            only(found, orders.SendText).text
            == "By key the caller gave the staff 2 of 5 and the hours 4 of 5."
        )
        assert kinds(found)[-2:] == ["Connect", "Reply"]
        assert only(line.tool("note", '{"text": "More chairs."}'), orders.ToolResult).output == "noted"
        end = line.hang_up()
        sent = only(end, orders.CallWebhook)
        answers = {key: sent.body[key] for key in ("visits", "staff", "hours", "comment")}
        assert answers == {"visits": "12", "staff": "2", "hours": "4", "comment": "More chairs."}
        assert sent.secret_env == "SURVEY_KEY"
        assert only(end, orders.Count).labels == {"whole": "yes"}

    def test_who_does_not_agree_is_let_go(self) -> None:
        line = call("survey")
        assert only(line.wait(8.1), orders.HangUp).last_words == "Thank you all the same. Good-bye."

    def test_who_hangs_up_half_way_is_counted_so(self) -> None:
        line = call("survey")
        line.key("1")
        line.wait(1)
        line.key("3#")
        end = line.hang_up()
        assert only(end, orders.CallWebhook).body["visits"] == "3"
        assert only(end, orders.Count).labels == {"whole": "no"}

    def test_keys_are_never_told_to_the_agent(self) -> None:
        line = call("survey")
        line.wait(1)
        assert "SendText" not in kinds(line.key("777"))


class TestAfterHours:
    def test_a_message_is_kept_and_sent(self) -> None:
        line = call("after_hours", at=NIGHT)
        hook = only(
            line.tool("keep_message", '{"name": "Bo", "message": "Call me.", "urgent": true}'),
            orders.CallWebhook,
        )
        assert (hook.body["message"], hook.body["number"]) == ("Call me.", "+493012345")
        assert tags(line.all) == ["urgent"]
        assert only(line.done(hook, None), orders.ToolResult).output == "The message is kept."
        assert tags(line.hang_up()) == []

    def test_a_message_that_does_not_arrive_is_marked(self) -> None:
        line = call("after_hours", at=NIGHT)
        hook = only(line.tool("keep_message", '{"name": "Bo", "message": "Call me."}'), orders.CallWebhook)
        assert tags(line.fail(hook, "503")) == ["message not delivered"]

    def test_who_leaves_none_is_marked(self) -> None:
        assert tags(call("after_hours", at=NIGHT).hang_up()) == ["no message"]

    def test_what_cannot_wait_goes_to_the_duty_line(self) -> None:
        line = call("after_hours", at=NIGHT)
        transfer = only(line.key("1"), orders.Transfer)
        assert transfer.target == "tel:+49305550599"
        assert kinds(line.fail(transfer)) == ["Reply"]

    def test_there_is_an_end(self) -> None:
        line = call("after_hours", at=NIGHT)
        assert said(line.wait(221)) == ["We have 20 seconds left."]
        assert only(line.wait(20), orders.HangUp).cause == "limit"


class TestTrial:
    @pytest.mark.parametrize(
        ("name", "agent"), [("trial_openai", "openai_realtime"), ("trial_deepgram", "deepgram")]
    )
    def test_only_the_agent_differs(self, name: str, agent: str) -> None:
        line = call(name)
        assert line.plan.opening(facts(), MONDAY).wanted.agent == agent
        side = agent.partition("_")[0]
        assert tags(line.all) == [f"trial: {side}"]
        order = only(line.tool("order", '{"from": "A", "to": "B", "at": "now"}'), orders.CallHttp)
        assert (order.method, order.body) == (
            "POST",
            {"from": "A", "to": "B", "at": "now", "number": "+493012345"},
        )
        assert only(line.hang_up(), orders.Count).labels == {"side": side}


REMINDER: Final[dict[str, Any]] = {
    "parameters": {"campaign": "reminder", "name": "Ann", "when": "Friday at nine"},
    "direction": "out",
}


class TestReminder:
    """Whoever places the call gives the facts."""

    def test_it_says_whom_and_when(self) -> None:
        words = SHELF.plan("reminder").opening(facts(**REMINDER), MONDAY).greeting_text
        assert words.startswith(
            "Hello Ann, this is Dr Weber's practice. You have an appointment on Friday at nine."
        )

    def end(self, line: Line) -> Any:
        return only(line.hang_up(), orders.CallWebhook).body["answer"]

    def test_kept_by_key(self) -> None:
        line = call("reminder", **REMINDER)
        assert only(line.key("1"), orders.HangUp).last_words.startswith("Thank you")
        assert self.end(line) == "kept"

    def test_moved_by_key_with_nobody_at_the_desk(self) -> None:
        line = call("reminder", **REMINDER)
        assert kinds(line.fail(only(line.key("2"), orders.Transfer))) == ["Reply"]
        assert self.end(line) == "moved"

    def test_cancelled_in_words(self) -> None:
        line = call("reminder", **REMINDER)
        line.tool("answer", '{"answer": "cancelled"}')
        assert self.end(line) == "cancelled"

    def test_a_machine_is_told_and_left(self) -> None:
        line = call("reminder", **REMINDER)
        found = line.event("caller_said", text="Please leave a message after the tone")
        assert only(found, orders.HangUp).last_words.endswith(
            "your appointment is on Friday at nine. Good-bye."
        )
        assert self.end(line) == "machine"

    def test_it_may_not_cost_more_than_thirty_cents(self) -> None:
        line = call("reminder", **REMINDER)  # Spoken by OpenAI Realtime, at 12 cents a minute.
        line.event("agent_speaking")
        assert "HangUp" not in kinds(line.wait(149))
        assert only(line.wait(2), orders.HangUp).cause == "limit"
