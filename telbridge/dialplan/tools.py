"""Functions that the agent calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from telbridge.dialplan import actions as act
from telbridge.dialplan import orders
from telbridge.dialplan.actions import ActionBase
from telbridge.dialplan.inputs import ToolCalled
from telbridge.dialplan.model import Tool
from telbridge.dialplan.plan import parameters
from telbridge.dialplan.prompts import end_collecting
from telbridge.dialplan.running import MOST_RUNS, events, start
from telbridge.dialplan.state import Origin, Run
from telbridge.dialplan.templates import rendered
from telbridge.dialplan.values import from_outside
from telbridge.dialplan.work import Work

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,), "array": (list,),
    "object": (dict,), "null": (type(None),),
}  # fmt: skip
_KEYS: Final = re.compile(r"[0-9*#]{1,32}")


def called(work: Work, call: ToolCalled) -> None:
    """Run the tool; its result always goes back, unless the call ends or the agent takes it back."""
    offered = work.state.tools
    tool = work.plan.dialplan.tools.get(call.name) if offered is None or call.name in offered else None
    arguments = _parsed(call.arguments)
    events(work, "tool_called", {"tool": call.name, "arguments": call.arguments[:2000]})
    if work.state.hanging_up:
        return
    if tool is None:
        _refuse(work, call, "there is no such tool")
    elif arguments is None:
        _refuse(work, call, "the arguments are no JSON object")
    elif wrong := wrong_arguments(parameters(tool), arguments):
        _refuse(work, call, wrong)
    elif any(run.tool_call_id == call.tool_call_id for run in work.state.runs):
        return
    else:
        _run(work, call, tool, arguments)


def cancelled(work: Work, tool_call_id: str) -> None:
    """Nobody waits for the result any more: it is dropped; what was begun is left to end by itself."""
    for run in work.state.runs:
        if run.tool_call_id == tool_call_id:
            if work.state.collecting is not None and work.state.collecting.run == run.id:
                end_collecting(work)
            work.drop(run.id)


def _refuse(work: Work, call: ToolCalled, why: str) -> None:
    work.order(orders.ToolResult, call.tool_call_id, json.dumps({"error": why}), failed=True)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return from_outside(found) if isinstance(found, dict) else None


def wrong_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """What the agent must hear of its arguments: those it forgot, and those of another kind."""
    missing = [name for name in schema.get("required", ()) if name not in arguments]
    if missing:
        return f"missing: {', '.join(missing)}"
    for name, value in arguments.items():
        wanted = schema.get("properties", {}).get(name, {})
        if not isinstance(wanted, Mapping):
            continue
        kind = wanted.get("type")
        kinds = _KINDS.get(kind) if isinstance(kind, str) else None
        odd = isinstance(value, bool) and kind in ("number", "integer")
        if kinds is not None and (odd or not isinstance(value, kinds)):
            return f"{name} must be of type {kind}"
        if "enum" in wanted and value not in wanted["enum"]:
            return f"{name} must be one of {', '.join(map(str, wanted['enum']))}"
    return None


def _run(work: Work, call: ToolCalled, tool: Tool, arguments: Mapping[str, Any]) -> None:
    extra = {"arguments": arguments}
    if tool.filler is not None:
        work.order(orders.Say, tool.filler.text(work.scope(extra)))
    if tool.http is not None or tool.python is not None:
        _outside(work, call, tool, arguments, extra)
    elif tool.use == "hangup":
        result = '{"result":"say goodbye; the call ends then"}'
        work.order(orders.ToolResult, call.tool_call_id, result)
        work.order(orders.HangUp, "normal", after_agent=True)  # A caller who speaks up again is not done.
    elif tool.use == "get_caller":
        facts = work.state.facts
        known = {"caller": facts.caller, "called": facts.called, "calls_before": facts.calls_before}
        work.order(orders.ToolResult, call.tool_call_id, json.dumps(known))
    elif tool.use == "set_variable":
        work.set(vars={**work.state.vars, str(arguments["name"]): _plain(arguments["value"])})
        work.order(orders.ToolResult, call.tool_call_id, '{"result":"done"}')
    elif tool.use == "send_dtmf" and not _KEYS.fullmatch(str(arguments["digits"])):
        _refuse(work, call, "digits must be keys 0-9, * and #")
    else:
        actions = _actions(tool, arguments)
        result = tool.result.text(work.scope(extra)) if tool.result is not None else ""
        start(work, actions, Origin.TOOL, extra, tool_call_id=call.tool_call_id, result=result)


def _actions(tool: Tool, arguments: Mapping[str, Any]) -> tuple[ActionBase, ...]:
    if tool.use == "transfer":
        return (act.Transfer.model_validate({"transfer": tool.to[str(arguments["to"])].source}),)
    if tool.use == "send_dtmf":
        return (act.SendDtmf.model_validate({"send_dtmf": str(arguments["digits"])}),)
    if tool.use == "collect_digits" and tool.ask is not None:
        return (tool.ask,)
    return tuple[ActionBase, ...](tool.do or ())


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) else json.dumps(value)


def _outside(
    work: Work, call: ToolCalled, tool: Tool, arguments: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    if len(work.state.runs) >= MOST_RUNS:
        _refuse(work, call, "too much is going on")
        return
    scope = work.scope(extra)
    order: orders.Order
    if tool.http is not None:
        body = None if tool.send is None else rendered(tool.send, scope)
        method = tool.method or ("GET" if body is None else "POST")
        headers = {
            name: re.sub(r"[\x00-\x1f\x7f]+", " ", one.text(scope)) for name, one in tool.headers.items()
        }
        order = work.order(orders.CallHttp, method, tool.http.url(scope), body, headers, tool.timeout_s)
    else:
        order = work.order(orders.CallPython, tool.python or "", arguments, tool.timeout_s)
    run = Run(work.state.next_id, (), Origin.TOOL, extra, tool_call_id=call.tool_call_id)
    run = replace(run, order=order.id, deadline_ns=work.after(tool.timeout_s + 5))
    work.set(next_id=run.id + 1, runs=(*work.state.runs, run))
