// What the agent says, from bursts off the network to an even stream: a ring buffer in the audio thread.
// Nothing starts or stops with a click: 5 ms of fade at a start, where the buffer runs dry, and at a clear.

const FADE_MS = 5;
const START_MS = 40; // So much is waited for before it starts,
const PATIENCE_MS = 60; // but no longer than this: a short word is played, too.
const MOST_START_MS = 160;
const UNDERRUN_MS = 100; // Dry for less: the network was late. For more: the agent had nothing to say.

export class Playout {
  constructor(rateHz) {
    this.ms = rateHz / 1000;
    this.ring = new Float32Array(1 << 15);
    this.read = 0; // Both count samples since the beginning.
    this.write = 0;
    this.marks = [];
    this.fade = new Float32Array(0);
    this.fadeAt = 0;
    this.rising = 0;
    this.last = 0;
    this.playing = false;
    this.startMs = START_MS;
    this.waited = 0;
    this.dry = Infinity;
    this.underruns = 0;
  }

  get queued() {
    return this.write - this.read;
  }

  // Int16 samples, in the order of playing.
  push(samples) {
    if (this.queued + samples.length > this.ring.length) this.grow(this.queued + samples.length);
    const mask = this.ring.length - 1;
    for (let i = 0; i < samples.length; i++) this.ring[(this.write + i) & mask] = samples[i] / 32768;
    this.write += samples.length;
  }

  // To be told by `render` once all before it is played.
  mark(name) {
    this.marks.push({ name, at: this.write });
  }

  // Silence after a fade; the names of the marks that will never be played.
  clear() {
    const names = this.marks.map((mark) => mark.name);
    if (this.playing) this.fadeOut();
    this.marks = [];
    this.read = this.write;
    this.playing = false;
    this.waited = 0;
    this.dry = Infinity;
    return names;
  }

  // Fills `out`; the names of the marks that have been played.
  render(out) {
    for (let i = 0; i < out.length; i++) out[i] = this.next();
    const played = [];
    while (this.marks.length && this.marks[0].at <= this.read) played.push(this.marks.shift().name);
    return played;
  }

  next() {
    if (this.fadeAt < this.fade.length) return (this.last = this.fade[this.fadeAt++]);
    if (!this.playing && !this.start()) return (this.last = 0);
    if (this.queued === 0) {
      this.playing = false;
      this.dry = 0;
      this.fadeOut();
      return this.next();
    }
    let sample = this.ring[this.read++ & (this.ring.length - 1)];
    const fadeSamples = Math.round(FADE_MS * this.ms);
    if (this.rising < fadeSamples) sample *= ++this.rising / fadeSamples;
    return (this.last = sample);
  }

  start() {
    this.dry++;
    if (this.queued === 0) return false;
    this.waited++;
    if (this.queued < this.startMs * this.ms && this.waited < PATIENCE_MS * this.ms) return false;
    if (this.dry - this.waited < UNDERRUN_MS * this.ms) {
      this.underruns++;
      this.startMs = Math.min(MOST_START_MS, this.startMs + 20);
    } else {
      this.startMs = Math.max(START_MS, this.startMs - 20);
    }
    this.playing = true;
    this.waited = 0;
    this.rising = 0;
    return true;
  }

  // Of what would have come, or, where nothing is left, of the last sample.
  fadeOut() {
    const size = Math.round(FADE_MS * this.ms);
    const have = Math.min(size, this.queued);
    const risen = Math.min(1, this.rising / size);
    let sample = this.last;
    this.fade = Float32Array.from({ length: size }, (_, i) => {
      if (i < have) sample = risen * this.ring[(this.read + i) & (this.ring.length - 1)];
      return sample * (1 - (i + 1) / size);
    });
    this.fadeAt = 0;
  }

  grow(needed) {
    let size = this.ring.length;
    while (size < needed) size *= 2;
    const ring = new Float32Array(size);
    const mask = this.ring.length - 1;
    for (let i = this.read; i < this.write; i++) ring[i & (size - 1)] = this.ring[i & mask];
    this.ring = ring;
  }
}

if ("registerProcessor" in globalThis) {
  registerProcessor(
    "playout",
    class extends AudioWorkletProcessor {
      constructor() {
        super();
        this.playout = new Playout(sampleRate);
        this.sum = this.count = 0;
        this.port.onmessage = ({ data }) => {
          if (data.audio) this.playout.push(new Int16Array(data.audio));
          else if (data.mark !== undefined) this.playout.mark(data.mark);
          else if (data.clear) this.tell(this.playout.clear());
        };
      }

      tell(marks) {
        for (const mark of marks) this.port.postMessage({ mark });
      }

      process(_inputs, [[left, ...others]]) {
        this.tell(this.playout.render(left));
        for (const other of others) other.set(left);
        for (const sample of left) this.sum += sample * sample;
        this.count += left.length;
        if (this.count >= sampleRate / 20) {
          const { playing, underruns } = this.playout;
          this.port.postMessage({ level: Math.sqrt(this.sum / this.count), playing, underruns });
          this.sum = this.count = 0;
        }
        return true;
      }
    },
  );
}
