"""Calls by ARI through the real ingress: a Stasis application of an Asterisk that is a strict fake."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

from telbridge.audio.formats import PCM_8K
from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.call.events import Ending
from telbridge.config import ConfigErrors, Settings, load
from telbridge.dialplan.orders import Tag
from telbridge.serving.ingress import Ingress
from tests.legs.ari_fake import FORMATS, PASSWORD, FakeAsterisk, FakeChannel, fake_asterisk
from tests.legs.stream_bed import Side, until
from tests.ports import free_port

ENVIRON = {"ARI_PASSWORD": PASSWORD}


class Bed:
    """Our side."""

    def __init__(self, ingress: Ingress, sides: list[Side]) -> None:
        self.ingress, self.sides = ingress, sides

    async def side(self) -> Side:
        """Of the call that came last, once it talks."""
        await until(lambda: bool(self.sides))
        side = self.sides[-1]
        await side.ready()
        return side


@asynccontextmanager
async def bridge(
    port: int,
    environ: dict[str, str] = ENVIRON,
    *,
    number: int = 1,
    siblings: Path | None = None,
    **sections: Any,
) -> AsyncIterator[Bed]:
    ari = {"url": f"http://127.0.0.1:{port}", **sections.pop("ari", {})}
    settings = Settings.model_validate({"http": {"port": free_port()}, "ari": ari, **sections})
    sides: list[Side] = []
    ingress = Ingress(
        settings,
        lambda leg: sides.append(Side(leg)),
        structlog.get_logger(),
        environ=environ,
        number=number,
        siblings=siblings,
    )
    await ingress.start()
    try:
        yield Bed(ingress, sides)
    finally:
        await ingress.stop()
        for side in sides:
            side.session.close()
            await side.task


@asynccontextmanager
async def bed(**sections: Any) -> AsyncIterator[tuple[FakeAsterisk, Bed]]:
    port = free_port()
    async with fake_asterisk(port) as asterisk, bridge(port, **sections) as ours:
        yield asterisk, ours
    assert asterisk.complaints == []


async def left_clean(asterisk: FakeAsterisk) -> None:
    """Nothing of ours is left in Asterisk."""
    await until(lambda: not asterisk.bridges and not any("telbridge-" in each for each in asterisk.channels))


def pieces(media: str, count: int) -> list[bytes]:
    """20 ms each, in the format of the media, all different."""
    form = FORMATS[media]
    codes = np.random.default_rng(7).integers(1, 100, (count, form.bytes_for_ms(20)), dtype=np.uint8)
    return [piece.tobytes() for piece in codes]


def in_ulaw(media: str, audio: bytes) -> bytes:
    """As the agent of these tests has it."""
    return pcm16_to_ulaw(audio) if FORMATS[media] == PCM_8K else audio


@pytest.mark.parametrize("media", ["websocket", "audiosocket", "rtp"])
async def test_a_caller_is_answered_heard_and_hears(media: str) -> None:
    settings = {"media": media, "variables": ["QUEUE", "PJSIP_HEADER(read,X-Ref)", "NONE"]}
    async with bed(ari=settings) as (asterisk, ours):
        asterisk_call = asyncio.create_task(asterisk.call("17.1", "tier=gold"))
        await until(lambda: "17.1" in asterisk.channels)
        asterisk.channels["17.1"].variables |= {"QUEUE": "billing", "PJSIP_HEADER(read,X-Ref)": "7"}
        channel = await asterisk_call
        side = await ours.side()
        facts = side.leg.facts
        assert (facts.ingress, facts.caller, facts.called) == ("ari", "42", "500")
        assert facts.parameters == {"caller_name": "Alice", "tier": "gold", "QUEUE": "billing"}
        assert facts.headers == {"X-Ref": "7"}
        assert channel.state == "Up"
        assert asterisk.bridges[f"telbridge-{facts.call_id}"] == {"17.1", f"telbridge-{facts.call_id}-media"}
        spoken = pieces(media, 5)
        for piece in spoken:
            await asterisk.speaks(piece)
        await until(lambda: len(side.session.uplink) >= 5)
        said = in_ulaw(media, b"".join(spoken))
        assert b"".join(side.session.uplink[-5:]) == said
        side.says(said * 4)
        await until(lambda: said * 4 in in_ulaw(media, bytes(asterisk.heard)))
        await asterisk.hang_up(channel)
        summary = await side.summary()
        assert (summary.ending, summary.facts.call_id) == (Ending.CALLER_HUNG_UP, facts.call_id)
        await left_clean(asterisk)


async def test_the_agent_hangs_up_after_its_last_word() -> None:
    async with bed() as (asterisk, ours):
        channel = await asterisk.call()
        side = await ours.side()
        goodbye = bytes(range(1, 101)) * 40
        side.says(goodbye)
        side.session.ends(Ending.AGENT_HUNG_UP)
        summary = await side.summary()
        assert summary.ending is Ending.AGENT_HUNG_UP
        assert goodbye in bytes(asterisk.heard)
        assert (channel.cause, channel.variables["TELBRIDGE_ENDING"]) == (16, "agent_hung_up")
        await left_clean(asterisk)


async def test_keys_hold_and_tags_both_ways() -> None:
    async with bed() as (asterisk, ours):
        channel = await asterisk.call()
        side = await ours.side()
        await asterisk.tell("ChannelDtmfReceived", channel, digit="5", duration_ms=120)
        await until(lambda: side.call._record.keys == 1)
        await asterisk.tell("ChannelHold", channel)
        await until(lambda: side.call._way.held)
        await asterisk.tell("ChannelUnhold", channel)
        await until(lambda: not side.call._way.held)
        side.leg.send_dtmf("1,#", tone_ms=60, gap_ms=40)
        await until(lambda: channel.keys == "1w#")
        side.call._stage.perform(Tag(1, "queue=billing"))
        await until(lambda: channel.variables.get("TELBRIDGE_queue") == "billing")


async def test_speech_waits_while_keys_go_out() -> None:
    async with bed() as (asterisk, ours):
        await asterisk.call()
        side = await ours.side()
        side.leg.send_dtmf("123", tone_ms=100, gap_ms=40)
        side.says(bytes([7]) * 1600)
        await asyncio.sleep(0.2)
        assert bytes([7]) not in asterisk.heard
        await until(lambda: bytes([7]) * 1600 in asterisk.heard)


async def test_an_interruption_empties_what_asterisk_holds() -> None:
    async with bed() as (asterisk, ours):
        asterisk.plays = False
        await asterisk.call()
        side = await ours.side()
        side.says(bytes([7]) * 16_000)
        await until(lambda: bytes([7]) * 800 in asterisk.heard)
        side.hears_the_caller()
        await until(lambda: "FLUSH_MEDIA" in asterisk.texts)


async def test_a_transfer_into_the_dialplan_leaves_the_caller_there() -> None:
    async with bed() as (asterisk, ours):
        channel = await asterisk.call()
        side = await ours.side()
        side.leg.transfer("asterisk:support,999", timeout_s=5)
        await asyncio.sleep(0.05)
        assert channel.went == ""
        side.leg.transfer("1001", timeout_s=5)
        summary = await side.summary()
        assert (summary.ending, channel.went) == (Ending.TRANSFERRED, "in,1001,1")
        assert channel.id in asterisk.channels
        await left_clean(asterisk)


async def test_without_room_the_caller_goes_on_in_the_dialplan() -> None:
    async with bed(streams={"max_calls": 1}) as (asterisk, ours):
        await asterisk.call("17.1")
        await ours.side()
        second = await asterisk.call("17.2")
        await until(lambda: bool(second.went))
        ours.ingress.drain()
        third = await asterisk.call("17.3")
        await until(lambda: bool(third.went))
        assert len(ours.sides) == 1


async def test_without_media_the_caller_goes_on_in_the_dialplan() -> None:
    async with bed() as (asterisk, ours):
        asterisk.gives_no_media = True
        channel = await asterisk.call()
        await until(lambda: bool(ours.sides))
        summary = await ours.sides[0].summary()
        assert summary.ending is Ending.LEG_FAILED
        assert "MEDIA_WEBSOCKET_CONNECTION_ID" in summary.detail
        assert (channel.went, channel.variables["TELBRIDGE_ENDING"]) == (",,", "leg_failed")
        await left_clean(asterisk)


async def test_a_stream_that_is_lost_lets_the_caller_go_on() -> None:
    async with bed() as (asterisk, ours):
        channel = await asterisk.call()
        side = await ours.side()
        await asterisk.close_media()
        assert (await side.summary()).ending is Ending.LEG_FAILED
        assert channel.went == ",,"
        await left_clean(asterisk)


async def test_live_calls_outlast_a_lost_connection_and_what_was_missed_is_found_out() -> None:
    async with bed() as (asterisk, ours):
        stays: FakeChannel = await asterisk.call("17.1")
        first = await ours.side()
        goes = await asterisk.call("17.2")
        await until(lambda: len(ours.sides) == 2)
        second = await ours.side()
        await asterisk.drop_events()
        await asterisk.hang_up(goes)  # Nobody is told.
        await asterisk.connected.wait()
        assert (await second.summary()).ending is Ending.CALLER_HUNG_UP
        await asterisk.tell("ChannelDtmfReceived", stays, digit="5", duration_ms=120)
        await until(lambda: first.call._record.keys == 1)
        assert not first.task.done()


async def test_callers_whom_a_dead_telbridge_left_behind_go_on_and_those_of_others_stay() -> None:
    port = free_port()
    async with fake_asterisk(port) as asterisk:
        for channel_id in ("17.1", "17.2", "17.3", "telbridge-lives-media", "telbridge-moved-other"):
            asterisk.channels[channel_id] = FakeChannel(channel_id, "PJSIP/trunk-1")
            asterisk.channels[channel_id].ours = True
        asterisk.bridges = {
            "telbridge-died": {"17.1"},
            "telbridge-lives": {"17.2", "telbridge-lives-media"},
            "telbridge-moved": {"17.3", "telbridge-moved-other"},
            "somebody": set(),
        }
        async with bridge(port):
            await until(lambda: "telbridge-died" not in asterisk.bridges)
        went = {channel.id for channel in asterisk.channels.values() if channel.went}
        assert (went, len(asterisk.bridges), asterisk.complaints) == ({"17.1"}, 3, [])


async def test_of_several_workers_one_has_the_application_and_another_takes_over_with_all_calls(
    tmp_path: Path,
) -> None:
    """As when a newer version of us takes the place of an old one, which keeps its calls."""
    port = free_port()
    async with fake_asterisk(port) as asterisk, bridge(port, number=2, siblings=tmp_path) as old:
        caller = await asterisk.call()
        side = await old.side()
        first = asterisk._events
        async with bridge(port, number=1, siblings=tmp_path) as new:
            await until(lambda: new.ingress._room.workers == old.ingress._room.workers == 2)
            assert asterisk._events is first, "who has it keeps it"
            old.ingress.drain()
            early = await asterisk.call("17.2")
            await until(lambda: asterisk._events is not first)
            await until(lambda: len(old.sides) + len(new.sides) == 2)
            taker = old if len(old.sides) == 2 else new
            await taker.sides[-1].ready()
            await until(lambda: bool(new.ingress._ari and new.ingress._ari._held))
            await asterisk.tell("ChannelDtmfReceived", caller, digit="5", duration_ms=120)
            await until(lambda: side.call._record.keys == 1)
            fresh = await asterisk.call("17.3")
            await until(lambda: len(old.sides) + len(new.sides) == 3)
            await new.side()
            for channel in (caller, early):
                await asterisk.hang_up(channel)
            assert (await side.summary()).ending is Ending.CALLER_HUNG_UP
            assert (await taker.sides[-1 if taker is old else 0].summary()).ending is Ending.CALLER_HUNG_UP
            assert asterisk.bridges, "the newest call was torn"
            await asterisk.hang_up(fresh)
            assert (await new.sides[-1].summary()).ending is Ending.CALLER_HUNG_UP
        await left_clean(asterisk)
        assert asterisk.complaints == []


async def test_when_the_worker_dies_that_has_the_application_another_one_takes_it(tmp_path: Path) -> None:
    port = free_port()
    async with fake_asterisk(port) as asterisk, bridge(port, number=1, siblings=tmp_path) as first:
        await asterisk.connected.wait()
        before = asterisk._events
        async with bridge(port, number=2, siblings=tmp_path) as second:
            await until(lambda: second.ingress._room.workers == 2)
            assert second.ingress._ari is None
            await first.ingress.stop()
            await until(lambda: asterisk._events is not before)
            caller = await asterisk.call()
            side = await second.side()
            await asterisk.hang_up(caller)
            assert (await side.summary()).ending is Ending.CALLER_HUNG_UP
        assert asterisk.complaints == []


async def test_an_asterisk_that_comes_later_is_waited_for() -> None:
    port = free_port()
    async with bridge(port) as ours:
        await asyncio.sleep(0.05)
        async with fake_asterisk(port) as asterisk:
            await asterisk.call()
            await ours.side()


async def test_a_wrong_password_is_told_once_with_its_remedy() -> None:
    port = free_port()
    with capture_logs() as logs:
        async with fake_asterisk(port), bridge(port, {"ARI_PASSWORD": "wrong"}) as ours:
            await until(lambda: any(line["event"] == "ari_disconnected" for line in logs))
            await asyncio.sleep(0.5)
            assert ours.ingress.describe()["http"]
    told = [line for line in logs if line["event"] == "ari_disconnected"]
    assert len(told) == 1
    assert (told[0]["why"], "ari.password" in told[0]["remedy"]) == ("refused with 401", True)
    assert "wrong" not in str(logs)


async def test_at_the_end_live_callers_go_on_in_the_dialplan() -> None:
    port = free_port()
    async with fake_asterisk(port) as asterisk:
        async with bridge(port) as ours:
            channel = await asterisk.call()
            await ours.side()
        assert (channel.went, channel.variables["TELBRIDGE_ENDING"]) == (",,", "drained")


@pytest.mark.parametrize(
    ("ari", "words"),
    [
        ({"url": "pbx:8088"}, "write one as http://127.0.0.1:8088"),
        ({"url": "http://pbx:8088", "media": "rtp", "codec": "slin16"}, "rtp carries no slin16"),
        ({"url": "http://pbx:8088", "app": "a b"}, "pattern"),
        ({"url": "http://pbx:8088", "media": "tcp"}, "'websocket'"),
    ],
)
def test_mistakes_of_its_settings_are_told_with_their_remedy(ari: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigErrors, match=words):
        load(None, {f"TELBRIDGE__ARI__{key}".upper(): value for key, value in ari.items()})


def test_the_settings_of_the_page_are_settings() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "ari.md").read_text("utf-8")
    (table,) = re.findall(r"```toml\n# telbridge.toml\n(.*?)```", page, re.DOTALL)
    settings = Settings.model_validate(tomllib.loads(table))
    assert settings.ari.url == "http://127.0.0.1:8088"
    for name in type(settings.ari).model_fields:
        assert f"`{name}`" in page


def test_a_missing_password_is_told() -> None:
    settings = Settings.model_validate({"ari": {"url": "http://127.0.0.1:8088"}})
    with pytest.raises(ConfigErrors, match=r"ari\.password"):
        Ingress(settings, lambda leg: None, structlog.get_logger(), environ={})
