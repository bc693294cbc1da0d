// The phone of the session: placing a call, its state, its keypad, hanging up.

import { byId, h } from "./dom";
import { logEvent } from "./log";
import type { Account, Dialog, DialogState, Place } from "./rest";
import { endSentence, stateWord } from "./words";

export interface PhoneEvents {
  failed(cause: unknown): void;
  began(): void;
  refresh(): void;
  key(key: string): void;
}

const keys = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const e164 = /^\+[1-9]\d{1,14}$/;

export class Phone {
  private dialog?: Dialog;
  /** The state of each dialog as it was told last; undefined before the first list. */
  private seen?: Map<string, DialogState>;
  private placing = false;
  private readonly listeners = new AbortController();
  private readonly clock: number;

  constructor(private readonly place: Place, private readonly account: Account, private readonly events: PhoneEvents) {
    const { signal } = this.listeners;
    byId("hangup").addEventListener("click", () => void this.hangUp(), { signal });
    byId("dial").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.dial(byId<HTMLInputElement>("to").value);
    }, { signal });
    const to = byId<HTMLInputElement>("to");
    to.addEventListener("focus", () => to.select(), { signal }); // the last number: kept to call again, or typed over
    byId("keypad").addEventListener("keydown", (event) => {
      if (keys.includes(event.key) && !event.repeat) this.press(event.key);
    }, { signal });
    byId("keypad").replaceChildren(...keys.map((key) => this.keyButton(key)));
    byId("numbers").replaceChildren(...this.numberList());
    this.clock = window.setInterval(() => this.tick(), 500);
    this.draw();
  }

  /** Takes the dialogs of the phone's participant. What ended before this page came is no news. */
  show(list: Dialog[]): void {
    const before = this.seen;
    this.seen = new Map(list.map((d) => [d.dialogId, d.state]));
    for (const d of list) {
      if (before?.get(d.dialogId) === d.state) continue;
      if (before || d.state !== "TERMINATED") this.tell(d);
    }
    this.dialog = list.find((d) => d.state !== "TERMINATED");
    this.draw();
  }

  /** Leaves the page as it was before the connection. */
  close(): void {
    this.listeners.abort();
    window.clearInterval(this.clock);
    this.dialog = undefined;
    byId("call").hidden = true;
    byId("dial").hidden = false;
    byId<HTMLButtonElement>("dial-button").disabled = true;
    byId("numbers").replaceChildren(
      h("li", { class: "empty" }, "Connect to see which numbers the lab answers."),
    );
  }

  private tell(d: Dialog): void {
    const { to, from } = d.dialogStateData;
    const who = d.direction === "inbound" ? from : to;
    switch (d.state) {
      case "NEW":
        return;
      case "CALLING":
        return logEvent(`Calling ${who}.`);
      case "RINGING":
        return logEvent(d.direction === "inbound" ? `${who} is calling.` : `${who} is ringing.`);
      case "ANSWERED":
        return logEvent(`${who} is in the call.`);
      case "TERMINATED":
        return logEvent(endSentence(d), d.eventData?.reason ? "bad" : "plain");
    }
  }

  private async dial(input: string): Promise<void> {
    const to = input.replace(/[\s().\-/]/g, "").replace(/^00/, "+");
    const field = byId<HTMLInputElement>("to");
    field.setAttribute("aria-invalid", String(!e164.test(to)));
    if (!e164.test(to)) {
      this.events.failed(new Error("A number starts with + and the country code, such as +15550100."));
      field.focus();
      return;
    }
    if (this.placing || this.dialog) return;
    this.placing = true;
    this.events.began();
    this.draw();
    try {
      field.value = to;
      const dialog = await this.account.call(this.place.phoneParticipantId, to, this.place.from);
      this.dialog = dialog;
    } catch (cause) {
      this.events.failed(cause);
    } finally {
      this.placing = false;
      this.draw();
      this.events.refresh();
    }
  }

  private async hangUp(): Promise<void> {
    const dialog = this.dialog;
    if (!dialog) return;
    const button = byId<HTMLButtonElement>("hangup");
    button.disabled = true;
    try {
      await this.account.hangUp(this.place.phoneParticipantId, dialog.dialogId);
    } catch (cause) {
      this.events.failed(cause);
    } finally {
      button.disabled = false;
      this.events.refresh();
    }
  }

  private press(key: string): void {
    this.events.key(key);
    const button = byId("keypad").querySelector<HTMLElement>(`[data-key="${key}"]`);
    button?.classList.add("pressed");
    window.setTimeout(() => button?.classList.remove("pressed"), 160);
    logEvent(`You pressed ${key}.`);
  }

  private keyButton(key: string): HTMLElement {
    const names: Record<string, string> = { "*": "Star", "#": "Hash" };
    const button = h("button", { type: "button", "data-key": key, "aria-label": names[key] ?? key }, key);
    button.addEventListener("click", () => this.press(key));
    return button;
  }

  private numberList(): HTMLElement[] {
    return this.place.numbers.map(({ number, label }) => {
      const button = h("button", { type: "button", "aria-label": `Call ${number}: ${label}` }, "Call");
      button.addEventListener("click", () => void this.dial(number));
      const text = h("div", {}, h("span", { class: "number" }, number), h("span", { class: "what" }, label));
      return h("li", {}, text, button);
    });
  }

  private draw(): void {
    const d = this.dialog;
    const free = !d && !this.placing;
    const wasHidden = byId("call").hidden;
    byId("call").hidden = !d;
    byId("dial").hidden = d !== undefined;
    byId<HTMLButtonElement>("dial-button").disabled = !free;
    for (const button of byId("numbers").querySelectorAll("button")) button.disabled = !free;
    if (!d) {
      // The focus was on a button that is gone now.
      if (!wasHidden && document.activeElement === document.body) byId("to").focus();
      return;
    }
    const { to, from } = d.dialogStateData;
    byId("call-number").textContent = d.direction === "inbound" ? from : to;
    const chip = byId("call-state");
    const word = stateWord(d.state);
    if (chip.textContent !== word) chip.textContent = word;
    chip.dataset.tone = d.state === "ANSWERED" ? "good" : "wait";
    this.tick();
  }

  private tick(): void {
    const answered = this.dialog?.state === "ANSWERED" ? Date.parse(this.dialog.answeredTime ?? "") : NaN;
    const seconds = Math.max(0, Math.round((Date.now() - answered) / 1000));
    byId("call-time").textContent = Number.isNaN(seconds)
      ? ""
      : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }
}
