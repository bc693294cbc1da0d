// The session as the REST API shows it, asked for every second and whenever the gateway says that a call changed.

import { byId, h, redraw } from "./dom";
import { logEvent } from "./log";
import type { Account, Dialog, Participant, Place } from "./rest";
import { endSentence, stateWord } from "./words";

export interface SessionEvents {
  dialogs(phone: Dialog[]): void;
  failed(cause: unknown): void;
  recovered(): void;
}

const every = 1_000;
/** How many ended dialogs of a participant are shown. */
const endedShown = 3;

interface Member extends Participant {
  dialogs: Dialog[];
}

export class SessionView {
  private timer?: number;
  private running = false;
  private asking = false;
  private again = false;
  private failing = false;
  private known?: Map<string, string>;

  constructor(private readonly place: Place, private readonly account: Account, private readonly events: SessionEvents) {}

  start(): void {
    this.running = true;
    byId("session-id").textContent = `Session ${this.place.sessionId}`;
    this.refresh();
  }

  stop(): void {
    this.running = false;
    window.clearTimeout(this.timer);
    byId("session-id").textContent = "";
    redraw(byId("members"), "none", () => [h("li", { class: "empty" }, "Nobody yet.")]);
  }

  /** Asks now; while an answer is outstanding, once more after it. */
  refresh(): void {
    if (!this.running) return;
    if (this.asking) {
      this.again = true;
      return;
    }
    window.clearTimeout(this.timer);
    void this.ask();
  }

  private async ask(): Promise<void> {
    this.asking = true;
    this.again = false;
    try {
      const members = await this.read();
      if (!this.running) return;
      if (this.failing) this.events.recovered();
      this.failing = false;
      this.show(members);
    } catch (cause) {
      // Once per outage: the same sentence every second helps nobody.
      if (this.running && !this.failing) this.events.failed(cause);
      this.failing = true;
    } finally {
      this.asking = false;
      if (this.running) this.timer = window.setTimeout(() => this.refresh(), this.again ? 0 : every);
    }
  }

  private async read(): Promise<Member[]> {
    const { sessionId } = this.place;
    const members = (await this.account.participants(sessionId)).sort((a, b) => this.rank(a) - this.rank(b));
    return Promise.all(
      members.map(async (p) => ({ ...p, dialogs: await this.account.dialogs(sessionId, p.id) })),
    );
  }

  /** This browser first, then the phone, then the others as they come. */
  private rank(p: Participant): number {
    return p.id === this.place.participantId ? 0 : p.id === this.place.phoneParticipantId ? 1 : 2;
  }

  private show(members: Member[]): void {
    this.tellChanges(members);
    const phone = members.find((m) => m.id === this.place.phoneParticipantId);
    this.events.dialogs(phone?.dialogs ?? []);
    redraw(byId("members"), members, () =>
      members.length === 0 ? [h("li", { class: "empty" }, "Nobody is in the session.")] : members.map((m) => this.item(m)),
    );
  }

  private tellChanges(members: Member[]): void {
    const now = new Map(members.map((m) => [m.id, this.name(m)]));
    if (this.known) {
      for (const [id, name] of now) if (!this.known.has(id)) logEvent(`${name} joined the session.`);
      for (const [id, name] of this.known) if (!now.has(id)) logEvent(`${name} left the session.`);
    }
    this.known = now;
  }

  private name(p: Participant): string {
    if (p.id === this.place.participantId) return p.tag || "This browser";
    if (p.id === this.place.phoneParticipantId) return p.tag || "Telephone";
    return p.tag || `Participant ${p.id.slice(0, 8)}`;
  }

  private item(m: Member): HTMLElement {
    const ended = m.dialogs.filter((d) => d.state === "TERMINATED").sort(newestFirst).slice(0, endedShown);
    const live = m.dialogs.filter((d) => d.state !== "TERMINATED").sort(newestFirst);
    const shown = [...live, ...ended];
    return h(
      "li",
      {},
      h(
        "div",
        { class: "who" },
        this.name(m),
        m.id === this.place.participantId && h("span", { class: "chip", "data-tone": "you" }, "You"),
        m.id === this.place.phoneParticipantId && h("span", { class: "chip" }, "Phone"),
      ),
      h("p", { class: "hint" }, m.id),
      shown.length > 0 && h("ul", { "aria-label": "Dialogs" }, ...shown.map(dialogItem)),
    );
  }
}

function newestFirst(a: Dialog, b: Dialog): number {
  return (b.createdTime ?? "").localeCompare(a.createdTime ?? "");
}

function dialogItem(d: Dialog): HTMLElement {
  const { to, from } = d.dialogStateData;
  const tone = d.state === "ANSWERED" ? "good" : d.state !== "TERMINATED" ? "wait" : d.eventData?.reason ? "bad" : "off";
  const title = d.state === "TERMINATED" ? endSentence(d) : `Dialog ${d.dialogId}`;
  return h(
    "li",
    { title },
    d.direction === "inbound" ? `from ${from}` : `to ${to}`,
    h("span", { class: "chip", "data-tone": tone }, `${stateWord(d.state)} · ${d.state}`),
  );
}
