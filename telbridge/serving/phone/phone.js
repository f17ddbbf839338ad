// What one sees of the telephone. All that comes from outside is shown as text, never as markup.

import { Line, LineFault } from "./line.js";

const KEYS = "123456789*0#";
const CAUSES = {
  caller_hung_up: "You hung up",
  agent_hung_up: "The agent hung up",
  dialplan_hung_up: "Ended by the dialplan",
  agent_unreachable: "The agent could not be reached",
  agent_refused: "The agent's API refused the session: see telbridge's log",
  agent_lost: "The agent was lost",
  media_timeout: "No sound arrived any more",
  drained: "telbridge was shut down",
  transferred: "Transferred",
  internal_error: "telbridge made a mistake: see its log",
  line_lost: "The connection was lost",
  microphone_lost: "The microphone is gone",
};
const QUIET_DB = -60;

const at = (id) => document.getElementById(id);
const body = document.body;

let line = null;
let cause = null;
let startedMs = 0;
let timer = 0;
let wakeLock = null;
let replies = new Map();
let atEnd = true;
let listening = null; // The line that waits for what the caller is saying.
let gaps = [];
let underruns = 0;

// ------------------------------------------------------------ one call

async function call() {
  forget();
  become("calling", "Calling …");
  line = new Line({ event: onEvent, microphone: (level) => show("you", level), speaker: onSpeaker, over: onOver });
  const mine = line;
  try {
    await mine.open({ called: at("called").value.trim(), caller: at("caller").value.trim() });
  } catch (fault) {
    if (mine !== line) return;
    if (!(fault instanceof LineFault)) console.error(fault);
    become("idle", "No call");
    notice(fault instanceof LineFault ? fault.message : `Something went wrong: ${fault.name}`);
    line = null;
  }
}

function forget() {
  replies = new Map();
  gaps = [];
  underruns = 0;
  cause = null;
  atEnd = true;
  at("transcript").replaceChildren();
  at("hint").hidden = true;
  notice("");
  figures();
}

function become(state, words) {
  body.dataset.state = state;
  at("state").textContent = words;
  const busy = state !== "idle";
  at("call").textContent = busy ? "Hang up" : "Call";
  at("called").disabled = at("caller").disabled = busy;
  for (const key of at("keypad").children) key.disabled = state !== "talking";
  if (!busy) {
    clearInterval(timer);
    listening?.remove();
    listening = null;
    mute(false);
    showKeys(false);
    show("you", 0);
    show("agent", 0);
    wakeLock?.release();
    wakeLock = null;
  }
}

function onEvent({ event, ...facts }) {
  switch (event) {
    case "answered":
      answered();
      break;
    case "caller_speaking":
      listen();
      break;
    case "caller_said":
      callerSaid(facts.text);
      break;
    case "agent_said":
      agentSaid(facts);
      break;
    case "turn":
      gaps.push(facts.gap_ms);
      note(`answered after ${seconds(facts.gap_ms)}`);
      figures();
      break;
    case "interrupted":
      note(`interrupted after ${seconds(facts.heard_ms)}`);
      break;
    case "session_lost":
      note("the connection to the agent broke; one moment");
      break;
    case "session_back":
      note("the agent is back");
      break;
    case "ended":
      cause = facts.cause;
      break;
  }
}

async function answered() {
  become("talking", "Connected");
  startedMs = performance.now();
  at("clock").hidden = false;
  tick();
  timer = setInterval(tick, 500);
  try {
    wakeLock = await navigator.wakeLock?.request("screen");
  } catch {
    // A screen that goes dark is no reason not to talk.
  }
}

function tick() {
  const s = Math.floor((performance.now() - startedMs) / 1000);
  at("clock").textContent = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

function onSpeaker({ level, playing, underruns: count }) {
  show("agent", playing ? level : 0);
  if (count !== underruns) {
    underruns = count;
    figures();
  }
}

function onOver({ why, detail }) {
  // What telbridge says of the end goes before what the closing of the line says.
  const said = cause ?? why;
  become("idle", CAUSES[said] ?? said.replaceAll("_", " "));
  if (why === "line_lost" && detail) notice(detail);
  else if (detail?.startsWith("refused with 404")) notice("No dialplan takes this call: telbridge route says why.");
  line = null;
}

// ------------------------------------------------------------ what is shown

function notice(words) {
  at("notice").textContent = words;
  at("notice").hidden = !words;
}

function agentSaid({ reply, text, cut }) {
  let words = replies.get(reply);
  if (!words) {
    words = say("agent", text);
    replies.set(reply, words);
  }
  keepInView(() => {
    words.textContent = text;
    words.className = cut ? "cut" : "";
  });
}

// Words come late: the line is where they were spoken.
function listen() {
  listening?.remove(); // That was a cough.
  listening = say("you", "…").parentElement;
  listening.classList.add("waiting");
}

function callerSaid(text) {
  const item = listening ?? say("you", "").parentElement;
  listening = null;
  keepInView(() => {
    item.classList.remove("waiting");
    item.lastElementChild.textContent = text;
  });
}

// A new line of the conversation; the element that holds its words.
function say(who, text) {
  const item = document.createElement("li");
  const name = document.createElement("small");
  const words = document.createElement("span");
  item.className = who;
  name.textContent = who === "you" ? "You" : "Agent";
  words.textContent = text;
  item.append(name, words);
  keepInView(() => at("transcript").append(item));
  return words;
}

function note(words) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = words;
  keepInView(() => at("transcript").append(item));
}

// Whoever has scrolled up to read is left in peace.
function keepInView(change) {
  const list = at("transcript");
  const stay = atEnd;
  change();
  if (stay) list.scrollTop = list.scrollHeight;
}

at("transcript").addEventListener("scroll", ({ target }) => {
  atEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 48;
});
new ResizeObserver(() => keepInView(() => {})).observe(at("transcript"));

function figures() {
  const parts = [];
  if (gaps.length) parts.push(`typical answer ${seconds(median(gaps))}`);
  if (underruns) parts.push(`${underruns} ${underruns === 1 ? "dropout" : "dropouts"}`);
  at("figures").textContent = parts.join(" · ");
}

function show(who, level) {
  const db = level > 0 ? 20 * Math.log10(level) : QUIET_DB;
  const share = Math.max(0, Math.min(1, 1 - (db + 6) / (QUIET_DB + 6)));
  const bar = at(`${who}-level`);
  bar.firstElementChild.style.transform = `scaleX(${share.toFixed(3)})`;
  bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(ms < 9950 ? 2 : 0)} s`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

// ------------------------------------------------------------ what is pressed

function press(digit) {
  if (body.dataset.state !== "talking") return;
  line?.press(digit);
  note(`key ${digit}`);
}

function mute(on) {
  if (line) line.muted = on;
  at("mute").setAttribute("aria-pressed", String(on));
  at("mute").textContent = on ? "Muted" : "Mute";
}

function showKeys(on) {
  body.dataset.keys = on ? "shown" : "hidden";
  at("keys").setAttribute("aria-pressed", String(on));
}

for (const digit of KEYS) {
  const key = document.createElement("button");
  key.type = "button";
  key.textContent = digit;
  key.addEventListener("click", () => press(digit));
  at("keypad").append(key);
}

at("call").addEventListener("click", () => (line ? line.hangUp() : call()));
at("mute").addEventListener("click", () => mute(at("mute").getAttribute("aria-pressed") !== "true"));
at("keys").addEventListener("click", () => showKeys(body.dataset.keys !== "shown"));
addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey;
  if (!typing && KEYS.includes(event.key)) press(event.key);
});
addEventListener("pagehide", () => line?.hangUp());

become("idle", "Ready to call");
if (!window.isSecureContext || !navigator.mediaDevices || !window.AudioWorkletNode) {
  at("call").disabled = true;
  at("state").textContent = "No microphone here";
  notice(
    window.isSecureContext
      ? "This browser offers no microphone to web pages. A current Chrome, Edge, Firefox or Safari does."
      : "Browsers give the microphone only to pages from localhost or over HTTPS.\n" +
          "On this machine open http://localhost:" +
          (location.port || "8081") +
          "/phone. From another one, bring both ports over: ssh -L 8081:localhost:8081 -L 8080:localhost:8080 " +
          location.hostname,
  );
}
