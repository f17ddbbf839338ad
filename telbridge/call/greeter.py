"""The first words of a call: chosen by the dialplan, said by the agent or by a recording."""

from __future__ import annotations

from telbridge.call.ports import Greeting, Outside, Session
from telbridge.call.utterances import GREETING, Utterances
from telbridge.dialplan.plan import Opening


class Greeter:
    """Nothing is said before `choose`, and nothing after it where the dialplan wants no greeting."""

    def __init__(self, utterances: Utterances, outside: Outside, *, is_default: bool) -> None:
        """`is_default`: nobody chose the greeting, one of the agent's own goes before it."""
        self._utterances, self._outside, self._is_default = utterances, outside, is_default
        self._greeting: Greeting | None = None
        self.wav = b""
        """Heard in the agent's place, in the leg's format."""
        self.barge_in = True

    @property
    def by_agent(self) -> bool:
        return self._greeting is not None

    def choose(self, opening: Opening) -> None:
        chosen = opening.greeting
        if chosen is None:
            return
        self.barge_in = chosen.barge_in
        if chosen.wav is not None:
            self.wav = self._outside.recording(chosen.wav)
        elif opening.greeting_text:
            verbatim = chosen.say is not None
            self._greeting = Greeting(opening.greeting_text, verbatim, self._is_default)

    def ask(self, session: Session) -> None:
        """Of a session that is not connected yet."""
        if self._greeting is not None:
            session.greet(self._greeting)
            self._utterances.ask(GREETING, barge_in=self.barge_in)

    def ask_again(self, session: Session) -> None:
        """The first one was lost with its session before anybody heard of it."""
        if self._greeting is None:
            return
        self._utterances.ask(GREETING, barge_in=self.barge_in)
        if self._greeting.verbatim:
            session.say(self._greeting.text)
        else:
            session.request_reply(self._greeting.text)
