// Records what a stream sounds like, after the browser's own jitter buffer and decoder.

const rate = 48000;

const worklet = `
registerProcessor("tap", class extends AudioWorkletProcessor {
  process([input]) {
    if (input.length > 0) this.port.postMessage(input[0].slice());
    return true;
  }
});`;

/** Resolves with seconds of the stream's first channel as base64 of little-endian 16-bit samples at 48 kHz. */
export async function record(stream, seconds) {
  const context = new AudioContext({ sampleRate: rate });
  // Chromium decodes a remote stream only while an element plays it.
  const player = new Audio();
  player.muted = true;
  player.srcObject = stream;
  try {
    await Promise.all([context.resume(), player.play()]);
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: "text/javascript" })));
    const tap = new AudioWorkletNode(context, "tap", { numberOfInputs: 1, numberOfOutputs: 0 });
    const source = context.createMediaStreamSource(stream);
    const wanted = Math.round(seconds * rate);
    const samples = new Int16Array(wanted);
    let filled = 0;
    await new Promise((resolve) => {
      tap.port.onmessage = ({ data }) => {
        for (const value of data) {
          if (filled === wanted) break;
          samples[filled++] = Math.round(Math.max(-1, Math.min(1, value)) * 32767);
        }
        if (filled === wanted) resolve();
      };
      source.connect(tap);
    });
    source.disconnect();
    return base64(new Uint8Array(samples.buffer));
  } finally {
    player.srcObject = null;
    await context.close();
  }
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}
