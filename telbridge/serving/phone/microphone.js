// The microphone, from the audio thread in frames of 20 ms. It is resampled here only where the browser does not
// do it: Firefox gives a microphone to no AudioContext of another rate (its bug 1674892).

const REACH = 16; // Zero crossings of the sinc to either side, at the lower of both rates.

export class Resampler {
  constructor(fromHz, toHz) {
    const gcd = (a, b) => (b ? gcd(b, a % b) : a);
    const common = gcd(fromHz, toHz);
    this.up = toHz / common;
    this.down = fromHz / common;
    const scale = Math.min(1, toHz / fromHz) * 0.95; // The rest is the filter's way down.
    this.half = Math.ceil(REACH / scale);
    this.phases = Array.from({ length: this.up }, (_, phase) => this.filter(phase / this.up, scale));
    this.input = new Float32Array(2 * this.half - 1);
    this.phase = 0;
  }

  // The taps for an output that lies `offset` of an input sample behind the one in the middle.
  filter(offset, scale) {
    const taps = Float32Array.from({ length: 2 * this.half }, (_, i) => {
      const x = i - this.half + 1 - offset;
      const y = Math.PI * scale * x;
      return (y ? Math.sin(y) / y : 1) * (0.5 + 0.5 * Math.cos((Math.PI * x) / (this.half + 1)));
    });
    const sum = taps.reduce((a, b) => a + b);
    return taps.map((tap) => tap / sum);
  }

  // What can be had with these samples more.
  push(samples) {
    const input = new Float32Array(this.input.length + samples.length);
    input.set(this.input);
    input.set(samples, this.input.length);
    const out = [];
    let at = 0;
    for (; at + 2 * this.half <= input.length; ) {
      const taps = this.phases[this.phase];
      let sum = 0;
      for (let i = 0; i < taps.length; i++) sum += taps[i] * input[at + i];
      out.push(sum);
      this.phase += this.down;
      at += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    this.input = input.slice(Math.min(at, input.length));
    return out;
  }
}

if ("registerProcessor" in globalThis) {
  registerProcessor(
    "microphone",
    class extends AudioWorkletProcessor {
      constructor({ processorOptions: { rateHz } }) {
        super();
        this.resampler = rateHz === sampleRate ? null : new Resampler(sampleRate, rateHz);
        this.size = rateHz / 50;
        this.frame = new Int16Array(this.size);
        this.filled = this.sum = 0;
      }

      process([input]) {
        const heard = input[0] ?? new Float32Array(128);
        for (const sample of this.resampler ? this.resampler.push(heard) : heard) this.take(sample);
        return true;
      }

      take(sample) {
        const limited = Math.max(-1, Math.min(1, sample));
        this.sum += limited * limited;
        this.frame[this.filled++] = Math.round(limited * 32767);
        if (this.filled < this.size) return;
        const { buffer } = this.frame;
        this.port.postMessage({ audio: buffer, level: Math.sqrt(this.sum / this.size) }, [buffer]);
        this.frame = new Int16Array(this.size);
        this.filled = this.sum = 0;
      }
    },
  );
}
