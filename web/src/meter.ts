// Level meters: how loud the microphone and the received sound are, drawn with every frame.

/** What the meters show at their left end, in dBFS; the right end is 0. */
const floor = -60;

export class Meter {
  private readonly analyser: AnalyserNode;
  private readonly samples: Float32Array<ArrayBuffer>;
  private readonly sources = new Map<string, MediaStreamAudioSourceNode>();
  private readonly bar: HTMLElement;
  private shown = 0;

  constructor(private readonly context: AudioContext, private readonly element: HTMLElement) {
    this.analyser = context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.samples = new Float32Array(this.analyser.fftSize);
    this.bar = element.querySelector<HTMLElement>(".bar")!;
  }

  add(stream: MediaStream): void {
    if (this.sources.has(stream.id) || stream.getAudioTracks().length === 0) return;
    const source = this.context.createMediaStreamSource(stream);
    source.connect(this.analyser);
    this.sources.set(stream.id, source);
  }

  remove(id: string): void {
    this.sources.get(id)?.disconnect();
    this.sources.delete(id);
  }

  clear(): void {
    for (const id of [...this.sources.keys()]) this.remove(id);
    this.show(0, floor);
  }

  /** Measures and draws once. */
  draw(): void {
    this.analyser.getFloatTimeDomainData(this.samples);
    let sum = 0;
    for (const s of this.samples) sum += s * s;
    const level = 10 * Math.log10(Math.max(1e-9, (2 * sum) / this.samples.length));
    const wanted = Math.min(1, Math.max(0, 1 - level / floor));
    // Up at once, down slowly: speech is easier to read so.
    this.show(Math.max(wanted, this.shown - 0.03), level);
  }

  private show(value: number, level: number): void {
    this.shown = value;
    this.bar.style.transform = `scaleX(${value.toFixed(3)})`;
    this.element.setAttribute("aria-valuenow", String(Math.round(Math.max(floor, Math.min(0, level)))));
  }
}
