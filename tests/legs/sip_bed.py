"""The test bed: the bridge as a child process, SIPp, and a small caller of our own for media."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.ports import free_port

HERE = Path(__file__).parent
HOST = "127.0.0.1"
PATIENCE_S = 30.0
"""For what must come: long, as other programs may want the machine, too."""
CRLF = "\r\n"


class Bridge:
    """A child process with a SIP endpoint whose calls echo."""

    def __init__(self, pjsua2: str, *, uvloop: bool = False, **settings: Any) -> None:
        self.port = free_port()
        first = random.randrange(30_000, 60_000, 1000)
        self.settings = {
            "host": HOST,
            "port": self.port,
            "rtp_port_first": first,
            "rtp_port_last": first + 999,
            **settings,
        }
        command = [sys.executable, str(HERE / "sip_child.py"), json.dumps(self.settings)]
        self.process = subprocess.Popen(
            [*command, json.dumps({"uvloop": uvloop})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TELBRIDGE_PJSUA2": pjsua2},
        )
        self.said: list[dict[str, Any]] = []
        self.logged: list[str] = []
        self._news = threading.Condition()
        self._taken = 0
        self._readers = [
            threading.Thread(target=self._read, args=(stream, keep), daemon=True)
            for stream, keep in (
                (self.process.stdout, self._heard),
                (self.process.stderr, self.logged.append),
            )
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Bridge:
        try:
            self.wait("ready", 2 * PATIENCE_S)
        except AssertionError:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        code = self.close()
        if exc[0] is None:
            assert code == 0, (code, self.logged[-20:])
            assert self.said[-1]["kind"] == "stopped"

    def close(self) -> int:
        """End of stdin is the order to stop."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return self.process.returncode

    def _read(self, stream: Any, keep: Callable[[str], None]) -> None:
        for line in stream:
            keep(line.decode("utf-8", "replace"))

    def _heard(self, line: str) -> None:
        with self._news:
            try:
                self.said.append(json.loads(line))
            except ValueError:
                self.said.append({"kind": "noise", "text": line})
            self._news.notify_all()

    def wait(self, kind: str, patience_s: float = PATIENCE_S, **fields: Any) -> dict[str, Any]:
        """The first thing said, since `mark`, of that kind and with those fields."""

        def found() -> dict[str, Any] | None:
            for fact in self.said[self._taken :]:
                if fact["kind"] == kind and all(fact.get(name) == value for name, value in fields.items()):
                    return fact
            return None

        deadline = time.monotonic() + patience_s
        with self._news:
            while (fact := found()) is None:
                left = deadline - time.monotonic()
                dead = self.process.poll() is not None and not self._readers[0].is_alive()
                if left <= 0 or dead:
                    raise AssertionError(
                        f"no {kind} {fields}; said {self.said[self._taken :]}; logged {self.logged[-20:]}"
                    )
                self._news.wait(min(left, 0.2))
        return fact

    def event(self, name: str, **fields: Any) -> dict[str, Any]:
        return self.wait("event", name=name, **fields)

    def mark(self) -> None:
        """What was said so far is of no interest any more."""
        with self._news:
            self._taken = len(self.said)

    def ended(self) -> dict[str, Any]:
        """The end of the first call since `mark` (an older one may end late)."""
        return self.event("LegEnded", call=self.wait("call")["call_id"])

    def since_mark(self, kind: str) -> list[dict[str, Any]]:
        with self._news:
            return [fact for fact in self.said[self._taken :] if fact["kind"] == kind]

    def do(self, what: str, **fields: Any) -> dict[str, Any]:
        """Send a command and wait until it is done; gives the footprint."""
        assert self.process.stdin
        before = sum(fact["kind"] == "done" for fact in self.said)
        self.process.stdin.write(json.dumps({"do": what, **fields}).encode() + b"\n")
        self.process.stdin.flush()
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while len(done := [fact for fact in self.said if fact["kind"] == "done"]) == before:
                assert time.monotonic() < deadline, (what, self.logged[-20:])
                self._news.wait(0.2)
        return done[-1]


def sipp(
    bridge: Bridge,
    scenario: str,
    *options: str,
    calls: int = 1,
    transport: str = "u1",
    source: str = HOST,
    service: str = "echo",
    expect: int | None = 0,
) -> subprocess.CompletedProcess[str]:
    """Run one of our scenarios against the bridge; `expect` is SIPp's exit code."""
    command = [
        "sipp",
        "-nostdin",
        "-sf",
        str(HERE / "scenarios" / scenario),
        "-m",
        str(calls),
        "-t",
        transport,
    ]
    command += ["-i", source, "-mi", source, "-p", str(free_port()), "-mp", str(free_port() & ~1)]
    command += ["-s", service, "-timeout", "30", "-timeout_error", "-trace_err", "-error_file", "/dev/stderr"]
    command += [*options, f"{HOST}:{bridge.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert expect is None or done.returncode == expect, (
        done.returncode,
        done.stdout[-3000:],
        done.stderr[-3000:],
    )
    return done


PCMU_OFFER, PCMA_OFFER = (0, 101), (8, 101)
ECHO_PACKETS = 500
"""Ten seconds: only when nothing comes back."""


class Caller:
    """SIP over UDP and RTP by hand: one dialog, one stream, no cleverness."""

    def __init__(self, bridge: Bridge, called: str = "echo", source: str = HOST) -> None:
        self.bridge, self.called, self.source = bridge, called, source
        self.sip = self._socket()
        self.rtp = self._socket()
        self.tag, self.call_id = f"{random.getrandbits(32):x}", f"{random.getrandbits(64):x}@test"
        self.to_tag = ""
        self.cseq = 0
        self.sdp_version = 1
        self.target = f"sip:{called}@{HOST}:{bridge.port}"
        self.contact = ""
        self.media: tuple[str, int] | None = None
        self.answered: tuple[int, ...] = ()
        self.rtp_sequence, self.rtp_time = random.getrandbits(15), random.getrandbits(31)
        self.sent_at_ns = 0
        """When the last RTP packet left."""
        self.ssrc = random.getrandbits(32)

    def _socket(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((self.source, 0))
        made.settimeout(PATIENCE_S)
        return made

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sip.close()
        self.rtp.close()

    # ---- SIP

    def request(
        self, method: str, *headers: str, body: str = "", cseq: int | None = None, branch: str = ""
    ) -> str:
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        branch = branch or f"z9hG4bK{random.getrandbits(64):x}"
        own = "{}:{}".format(*self.sip.getsockname())
        lines = [
            f"{method} {self.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {own};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:+4930123@{own}>;tag={self.tag}",
            f"To: <sip:{self.called}@{HOST}:{self.bridge.port}>"
            + (f";tag={self.to_tag}" if self.to_tag else ""),
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <{self.contact or f'sip:test@{own}'}>",
            *headers,
            *(
                ["Content-Type: application/sdp"]
                if body and not any("Content-Type" in h for h in headers)
                else []
            ),
            f"Content-Length: {len(body)}",
        ]
        self.send(CRLF.join(lines) + CRLF * 2 + body)
        return branch

    def send(self, text: str | bytes) -> None:
        self.sip.sendto(text.encode() if isinstance(text, str) else text, (HOST, self.bridge.port))

    def received(self) -> bytes:
        """The bridge's next message. To whoever had this port before, somebody else may still send."""
        while True:
            data, (_, port) = self.sip.recvfrom(65536)
            if port == self.bridge.port:
                return data

    def response(self, *, to: str = "", final: bool = True) -> tuple[int, str]:
        """The next response (to that method); provisional ones are passed over unless `final` is off."""
        while True:
            text = self.received().decode()
            if not text.startswith("SIP/2.0 "):
                continue
            status = int(text.split()[1])
            if (not final or status >= 200) and (not to or re.search(rf"(?im)^CSeq: *\d+ +{to}\s*$", text)):
                return status, text

    def respond(self, request: str, status: str = "200 OK") -> None:
        """Answer a request of the bridge."""
        copied = ("Via", "From", "To", "Call-ID", "CSeq")
        head = [line for line in request.split(CRLF) if line.split(":")[0] in copied]
        self.send(CRLF.join([f"SIP/2.0 {status}", *head, "Content-Length: 0", "", ""]))

    def comes(self, words: str, seconds: float) -> bool:
        """Whether a message with these words comes within that time; others, retransmissions say, may."""
        deadline = time.monotonic() + seconds
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                self.sip.settimeout(left_s)
                if words in self.received().decode():
                    return True
        except TimeoutError:
            pass
        finally:
            self.sip.settimeout(PATIENCE_S)
        return False

    def nothing_comes(self, seconds: float) -> bool:
        self.sip.settimeout(seconds)
        try:
            self.received()
        except TimeoutError:
            return True
        finally:
            self.sip.settimeout(PATIENCE_S)
        return False

    def offer(
        self,
        payload_types: tuple[int, ...] = PCMU_OFFER,
        direction: str = "sendrecv",
        rtpmaps: tuple[str, ...] = (),
        port: int | None = None,
    ) -> str:
        self.sdp_version += 1
        names = {0: "PCMU/8000", 8: "PCMA/8000", 101: "telephone-event/8000", 18: "G729/8000", 9: "G722/8000"}
        lines = [
            "v=0",
            f"o=test 1 {self.sdp_version} IN IP4 {self.source}",
            "s=-",
            f"c=IN IP4 {self.source}",
            "t=0 0",
            f"m=audio {port or self.rtp.getsockname()[1]} RTP/AVP {' '.join(map(str, payload_types))}",
            *[f"a=rtpmap:{number} {names[number]}" for number in payload_types if number in names],
            *rtpmaps,
            f"a={direction}",
        ]
        return CRLF.join(lines) + CRLF

    def invite(self, *headers: str, body: str | None = None) -> tuple[int, str]:
        """INVITE or re-INVITE, and the ACK for what comes back."""
        branch = self.request("INVITE", *headers, body=self.offer() if body is None else body)
        status, text = self.response(to="INVITE")
        tag = re.search(r"(?im)^To:.*;tag=([^;\s]+)", text)
        before, self.to_tag = self.to_tag, tag[1] if tag else self.to_tag
        if status < 300:
            if contact := re.search(r"(?im)^Contact: *<([^>]+)>", text):
                self.target = contact[1]
            self.learn(text)
            self.request("ACK", cseq=self.cseq)
        else:
            self.request("ACK", cseq=self.cseq, branch=branch)
            self.to_tag = before
        return status, text

    def learn(self, text: str) -> None:
        if line := re.search(r"(?m)^m=audio (\d+) \S+ ([\d ]+)", text):
            address = re.search(r"(?m)^c=IN IP4 (\S+)", text)
            assert address
            self.media = (address[1], int(line[1]))
            self.answered = tuple(map(int, line[2].split()))

    def bye(self) -> None:
        self.request("BYE")
        assert self.response(to="BYE")[0] == 200

    def bye_unheard(self) -> None:
        """BYE, while requests of the bridge may stand in our socket unanswered."""
        self.request("BYE")

    # ---- RTP

    def new_media_socket(self) -> None:
        self.rtp.close()
        self.rtp = self._socket()

    def send_rtp(
        self, payload: bytes, payload_type: int, *, marker: bool = False, advance: int | None = None
    ) -> None:
        assert self.media
        head = bytes((0x80, payload_type | 0x80 * marker)) + self.rtp_sequence.to_bytes(2, "big")
        head += self.rtp_time.to_bytes(4, "big") + self.ssrc.to_bytes(4, "big")
        self.sent_at_ns = time.monotonic_ns()
        self.rtp.sendto(head + payload, self.media)
        self.rtp_sequence = (self.rtp_sequence + 1) & 0xFFFF
        self.rtp_time = (self.rtp_time + (len(payload) if advance is None else advance)) & 0xFFFFFFFF

    def echo(self, payload_type: int, *, wanted: int = 10) -> int:
        """Send marked frames, 50 a second, until so many have come back with that payload type."""
        codes = [code for code in range(1, 127) if code not in (0x55, 0x7F)]
        sent: set[int] = set()
        back: set[int] = set()
        start = time.monotonic()
        for number in range(ECHO_PACKETS):
            code = codes[number % len(codes)]
            self.send_rtp(bytes([code]) * 160, payload_type)
            sent.add(code)
            for kind, packet in self.packets(start + (number + 1) * 0.02 - time.monotonic()):
                payload = packet[12:]
                # The concealment may shift by part of a frame: two neighbours may share one.
                if kind == payload_type and payload[-1] in sent and len(set(payload)) <= 2:
                    back.add(payload[-1])
            if len(back) >= wanted:
                break
        return len(back)

    def packets(self, seconds: float) -> Iterator[tuple[int, bytes]]:
        """What comes in that time, by payload type; what has come already if there is none left."""
        until = time.monotonic() + seconds
        try:
            while True:
                self.rtp.settimeout(max(until - time.monotonic(), 0.0))
                packet = self.rtp.recv(2048)
                yield packet[1] & 0x7F, packet
        except (TimeoutError, BlockingIOError):
            return
        finally:
            self.rtp.settimeout(PATIENCE_S)

    def key(self, event: int, *, updates: int = 5, ends: int = 3) -> None:
        """One RFC 4733 key of `updates` × 20 ms."""
        start = self.rtp_time
        for number in range(updates + ends):
            duration = min(number + 1, updates) * 160
            end = number >= updates
            payload = bytes((event, 10 | 0x80 * end)) + duration.to_bytes(2, "big")
            self.rtp_time = start
            self.send_rtp(payload, 101, marker=number == 0, advance=0)
            time.sleep(0.02 if not end else 0)  # the pace of the wire, not a wait for anything
        self.rtp_time = start + updates * 160 + 160
