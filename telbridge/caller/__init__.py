"""A SIP caller of our own, independent of pjsua2, for people, tests and benchmarks."""

from telbridge.caller.conversation import Conversation, Line, Listen, Patience, Press, Turn
from telbridge.caller.handle import CallFailed, CallHandle
from telbridge.caller.report import CallReport
from telbridge.caller.rtp import Packet
from telbridge.caller.run import CallOptions, Say, Wav, run_call
from telbridge.caller.sdp import Direction
from telbridge.caller.sender import Played
from telbridge.caller.softphone import Softphone

__all__ = [
    "CallFailed",
    "CallHandle",
    "CallOptions",
    "CallReport",
    "Conversation",
    "Direction",
    "Line",
    "Listen",
    "Packet",
    "Patience",
    "Played",
    "Press",
    "Say",
    "Softphone",
    "Turn",
    "Wav",
    "run_call",
]
