// The event log of the page.

import { byId, h } from "./dom";

const kept = 200;

/** Adds a line at the top. */
export function logEvent(text: string, tone: "plain" | "bad" = "plain"): void {
  const list = byId("events");
  const now = new Date();
  const time = h("time", { datetime: now.toISOString() }, now.toLocaleTimeString([], { hour12: false }));
  list.prepend(h("li", tone === "bad" ? { "data-tone": "bad" } : {}, time, h("span", {}, text)));
  while (list.children.length > kept) list.lastElementChild?.remove();
}

export function clearLog(): void {
  byId("events").replaceChildren();
}
