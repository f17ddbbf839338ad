// One call: microphone and loudspeaker on one side, the generic stream of docs/media-streams.md on the other.

const RATE_HZ = 24000;
const FAREWELL_MS = 1500; // For the last words that were sent to be played.

export class LineFault extends Error {}

export class Line {
  // `on`: an object of functions: event(message), microphone(level), speaker({level, playing, underruns}),
  // over({why, detail}).
  constructor(on) {
    this.on = on;
    this.muted = false;
    this.isOver = false;
    this.contexts = [];
  }

  // Rings. LineFault, in words for the caller, where it cannot.
  async open({ called, caller }) {
    try {
      await this.openAudio();
      await this.openSocket({ called, caller });
    } catch (fault) {
      this.release();
      throw fault;
    }
  }

  press(digit) {
    this.send({ type: "dtmf", digit });
  }

  hangUp() {
    this.send({ type: "stop", reason: "hung up" });
    this.finish({ why: "caller_hung_up" });
  }

  // ------------------------------------------------------------ audio

  async openAudio() {
    // First, while the browser still sees the click that asked for it.
    const context = this.context({ sampleRate: RATE_HZ, latencyHint: "interactive" });
    this.microphone = await askForMicrophone();
    this.goOn();
    await context.resume();
    await context.audioWorklet.addModule(new URL("./playout.js", import.meta.url));
    this.speaker = new AudioWorkletNode(context, "playout", { numberOfInputs: 0, outputChannelCount: [1] });
    this.speaker.port.onmessage = ({ data }) => {
      if (data.mark !== undefined) this.send({ type: "mark", mark: data.mark });
      else this.on.speaker(data);
    };
    this.speaker.connect(context.destination);
    await this.openMicrophone(context);
    for (const track of this.microphone.getAudioTracks()) {
      track.onended = () => this.finish({ why: "microphone_lost" });
    }
  }

  async openMicrophone(context) {
    let source;
    try {
      source = context.createMediaStreamSource(this.microphone);
    } catch {
      context = this.context({}); // At the microphone's own rate.
      await context.resume();
      source = context.createMediaStreamSource(this.microphone);
    }
    await context.audioWorklet.addModule(new URL("./microphone.js", import.meta.url));
    const processorOptions = { rateHz: RATE_HZ };
    const frames = new AudioWorkletNode(context, "microphone", { processorOptions, channelCount: 1 });
    frames.port.onmessage = ({ data }) => this.heard(data);
    source.connect(frames);
    frames.connect(context.destination); // It gives silence; unconnected, some browsers would not run it.
  }

  context(options) {
    const context = new AudioContext(options);
    this.contexts.push(context);
    return context;
  }

  heard({ audio, level }) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(this.muted ? new ArrayBuffer(audio.byteLength) : audio);
    this.on.microphone(this.muted ? 0 : level);
  }

  // ------------------------------------------------------------ the stream

  async openSocket({ called, caller }) {
    const url = await this.ask();
    this.goOn();
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      const { host } = new URL(url);
      socket.onerror = () => reject(new LineFault(`${host} did not take the call. The log of telbridge says why.`));
    });
    this.goOn();
    socket.onerror = null;
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ code, reason }) =>
      this.finish({ why: code === 1000 ? "agent_hung_up" : "line_lost", detail: reason }, FAREWELL_MS);
    const start = { type: "start", format: { encoding: "pcm16", rate_hz: RATE_HZ }, events: true };
    if (called) start.to = called;
    if (caller) start.from = caller;
    this.send(start);
  }

  async ask() {
    let answer;
    try {
      answer = await fetch(new URL("./line", import.meta.url), { method: "POST" });
    } catch {
      throw new LineFault("telbridge does not answer. Is it running?");
    }
    const text = await answer.text();
    let said = {};
    try {
      said = JSON.parse(text);
    } catch {
      said = { why: text };
    }
    if (!answer.ok) throw new LineFault(said.why || `telbridge answered ${answer.status}.`);
    if (location.protocol === "https:" && said.url.startsWith("ws:")) {
      throw new LineFault("This page came over HTTPS, so the call must too: set http.public_url.");
    }
    return said.url;
  }

  receive(data) {
    if (this.isOver) return;
    if (data instanceof ArrayBuffer) {
      this.speaker.port.postMessage({ audio: data }, [data]);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "mark") this.speaker.port.postMessage({ mark: message.mark });
    else if (message.type === "clear") this.speaker.port.postMessage({ clear: true });
    else if (message.type === "event") this.on.event(message);
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // ------------------------------------------------------------ the end

  // What was waited for may come after the caller has hung up.
  goOn() {
    if (this.isOver) throw new LineFault("You hung up.");
  }

  finish(end, afterMs = 0) {
    if (this.isOver) return;
    this.release(afterMs);
    this.on.over(end);
  }

  // The microphone at once; the loudspeaker once its last words are out.
  release(afterMs = 0) {
    this.isOver = true;
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
    this.socket?.close(1000);
    const contexts = this.contexts.splice(0);
    setTimeout(() => contexts.forEach((context) => context.close()), afterMs);
  }
}

async function askForMicrophone() {
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
    });
  } catch (fault) {
    if (fault.name === "NotAllowedError") {
      throw new LineFault("The browser may not use the microphone. Allow it for this page, then call again.");
    }
    if (fault.name === "NotFoundError") throw new LineFault("No microphone was found.");
    throw new LineFault(`The microphone cannot be used (${fault.name}).`);
  }
}
