// Where the page's own sound comes from.

import { insecurePage, microphoneSentence } from "./words";

/** Asks for the microphone; a refusal is an Error with a sentence that helps. */
export async function microphone(): Promise<MediaStream> {
  if (!navigator.mediaDevices) throw new Error(insecurePage);
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (cause) {
    throw new Error(microphoneSentence(cause));
  }
}

/** A stream that carries no sound. */
export function silence(context: AudioContext): MediaStream {
  return context.createMediaStreamDestination().stream;
}
