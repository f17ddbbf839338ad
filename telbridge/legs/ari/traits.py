"""What calls by ARI can do, for the table of docs/media-streams.md."""

from __future__ import annotations

from typing import Final

from telbridge.audio.formats import PCM_8K, PCM_16K, PCMA_8K, PCMU_8K
from telbridge.legs.streams.peer import PeerTraits

ARI: Final = PeerTraits(
    name="ari",
    title="Asterisk ARI",
    formats=(PCMU_8K, PCMA_8K, PCM_8K, PCM_16K),
    messages="binary, over a WebSocket that we open; AudioSocket or RTP by setting",
    authentication="nobody: we connect, as a user of ari.conf",
    marks=True,
    answers_idle_mark=True,
    clears=True,
    dtmf_in=True,
    dtmf_out="by ARI",
    hangs_up="hangs up the caller's channel, with a cause; what fails lets it go on in Asterisk's dialplan",
    sends_always=False,
)
