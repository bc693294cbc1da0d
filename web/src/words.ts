// What the page says to people about states, ends and failures.

import { Refusal, type Dialog, type DialogState } from "./rest";

export function stateWord(state: DialogState): string {
  switch (state) {
    case "NEW":
      return "Preparing";
    case "CALLING":
      return "Calling";
    case "RINGING":
      return "Ringing";
    case "ANSWERED":
      return "In call";
    case "TERMINATED":
      return "Ended";
  }
}

/** Why a dialog ended, in a sentence. */
export function endSentence(dialog: Dialog): string {
  const details = dialog.eventData?.details;
  const more = details ? ` (${details})` : "";
  switch (dialog.eventData?.reason) {
    case "FAR END BUSY":
      return `The line is busy${more}.`;
    case "FAR END DECLINED":
      return `The call was declined${more}.`;
    case "FAR END NOT FOUND":
      return `There is nobody at this number${more}.`;
    case "ERROR":
      return `The call failed${more}.`;
    default:
      return `The call has ended${more}.`;
  }
}

/** Why the microphone can't be had, and what helps. */
export function microphoneSentence(cause: unknown): string {
  const listen = "You can listen only, too.";
  switch ((cause as DOMException | undefined)?.name) {
    case "NotAllowedError":
      return `This browser does not let the page use the microphone. Allow it beside the address bar and connect again. ${listen}`;
    case "NotFoundError":
      return `No microphone was found. Plug one in and connect again. ${listen}`;
    case "NotReadableError":
      return `The microphone is in use by another program. Close that and connect again. ${listen}`;
    default:
      return `The microphone could not be opened (${(cause as Error)?.message ?? cause}). ${listen}`;
  }
}

export const insecurePage =
  "Browsers give a microphone only to pages from https:// or from localhost. Open the page that way, or listen only.";

export function failureSentence(cause: unknown): string {
  if (cause instanceof Refusal) {
    switch (cause.status) {
      case 401:
      case 403:
        return "The gateway refused the demo account. It was probably restarted: disconnect and connect again.";
      case 404:
        return `${sentence(cause.message)} If the session has ended, disconnect and connect again.`;
      case 409:
        return `${sentence(cause.message)} Hang up first, then call again.`;
      case 429:
        return "That was too much at once. Wait a moment and try again.";
    }
  }
  return sentence(cause instanceof Error ? cause.message : String(cause));
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : first + ".";
}
