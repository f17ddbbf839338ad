"""The classes that pjsua2 calls. Every body is guarded once, here: nothing raises into C++."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol


class CallWatcher(Protocol):
    """What a call tells, always on the loop's thread, inside `libHandleEvents`."""

    def call_state_changed(self) -> None: ...
    def media_state_changed(self) -> None: ...
    def stream_created(self, parameters: Any) -> None: ...
    def stream_destroyed(self) -> None: ...
    def dtmf(self, parameters: Any) -> None: ...
    def transaction(self, parameters: Any) -> None:
        """A transaction inside the dialog changed its state."""

    def offer_received(self, parameters: Any) -> None:
        """A re-INVITE or UPDATE with `parameters.offer`; `parameters.statusCode` is the answer to be."""


class EndpointWatcher(Protocol):
    """What account and endpoint tell."""

    def incoming_call(self, parameters: Any) -> None: ...
    def call_rejected(self, parameters: Any) -> None: ...


def response(pj: Any, status: int, retry_after_s: int | None = None) -> Any:
    """What `Call.answer` and `Call.hangup` take."""
    parameters = pj.CallOpParam()
    parameters.statusCode = status
    if retry_after_s is not None:
        header = pj.SipHeader()
        header.hName, header.hValue = "Retry-After", str(retry_after_s)
        parameters.txOption.headers.append(header)
    return parameters


class Edge:
    """Makes the subclasses for a loaded pjsua2; `on_bug(where)` is called inside an except block."""

    def __init__(self, pj: Any, on_bug: Callable[[str], None]) -> None:
        def guarded(body: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
            @functools.wraps(body)
            def callback(self: Any, parameters: Any) -> None:
                try:
                    body(self, parameters)
                except Exception:  # noqa: BLE001 - the edge to C++
                    on_bug(body.__name__)

            return callback

        class Call(pj.Call):  # type: ignore[misc]
            watcher: CallWatcher | None = None

            @guarded
            def onCallState(self, _: Any) -> None:
                if self.watcher:
                    self.watcher.call_state_changed()

            @guarded
            def onCallMediaState(self, _: Any) -> None:
                if self.watcher:
                    self.watcher.media_state_changed()

            @guarded
            def onStreamCreated(self, parameters: Any) -> None:
                if self.watcher:
                    self.watcher.stream_created(parameters)

            @guarded
            def onStreamDestroyed(self, _: Any) -> None:
                if self.watcher:
                    self.watcher.stream_destroyed()

            @guarded
            def onCallRxReinvite(self, parameters: Any) -> None:
                if self.watcher:
                    self.watcher.offer_received(parameters)

            @guarded
            def onCallRxOffer(self, parameters: Any) -> None:
                if self.watcher:
                    self.watcher.offer_received(parameters)

            @guarded
            def onCallTsxState(self, parameters: Any) -> None:
                if self.watcher:
                    self.watcher.transaction(parameters)

            # By itself the library would obey a REFER with a call of its own, and let an INVITE with Replaces
            # take a call over.
            @guarded
            def onCallTransferRequest(self, parameters: Any) -> None:
                parameters.statusCode = pj.PJSIP_SC_DECLINE

            @guarded
            def onCallReplaceRequest(self, parameters: Any) -> None:
                parameters.statusCode = pj.PJSIP_SC_DECLINE

            @guarded
            def onDtmfEvent(self, parameters: Any) -> None:
                if self.watcher:
                    self.watcher.dtmf(parameters)

        class Account(pj.Account):  # type: ignore[misc]
            watcher: EndpointWatcher | None = None

            @guarded
            def onIncomingCall(self, parameters: Any) -> None:
                if self.watcher:
                    self.watcher.incoming_call(parameters)

            @guarded
            def onIncomingSubscribe(self, parameters: Any) -> None:
                parameters.code = pj.PJSIP_SC_BAD_EVENT

        class Endpoint(pj.Endpoint):  # type: ignore[misc]
            watcher: EndpointWatcher | None = None

            @guarded
            def onRejectedIncomingCall(self, parameters: Any) -> None:
                if self.watcher:
                    self.watcher.call_rejected(parameters)

        self.Call: Any = Call
        self.Account: Any = Account
        self.Endpoint: Any = Endpoint
