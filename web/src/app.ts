// The demo page: it joins a session as a browser and drives a phone in it by the REST API.

import { Device, type StreamInfo } from "./device";
import { byId } from "./dom";
import { logEvent, clearLog } from "./log";
import { Meter } from "./meter";
import { microphone, silence } from "./microphone";
import type { Params } from "./rpc";
import { Account, join, type Place } from "./rest";
import { Phone } from "./phone";
import { SessionView } from "./session";
import { failureSentence } from "./words";

type Tone = "off" | "wait" | "good" | "bad";

/** Everything that lives as long as one connection. */
interface Connection {
  place: Place;
  device: Device;
  context: AudioContext;
  mine: MediaStream;
  listenOnly: boolean;
  mic: Meter;
  line: Meter;
  view: SessionView;
  phone: Phone;
  names: Map<string, string>;
}

let current: Connection | undefined;
let busy = false;

function status(text: string, tone: Tone): void {
  const pill = byId("status");
  pill.textContent = text;
  pill.dataset.tone = tone;
}

function complain(text: string): void {
  const box = byId("alert");
  box.textContent = text;
  box.hidden = text === "";
  if (text) logEvent(text, "bad");
}

async function connect(listenOnly: boolean): Promise<void> {
  if (busy || current) return;
  busy = true;
  buttons();
  complain("");
  status("Connecting…", "wait");
  // Made in the click, so that the browser lets it make sound.
  const context = new AudioContext();
  let mine: MediaStream | undefined;
  try {
    // A silent stream where there is no microphone: it carries the keys of the keypad.
    mine = listenOnly ? silence(context) : await microphone();
    const place = await join();
    current = setUp(place, context, mine, listenOnly);
    await current.device.connect();
    await current.device.publish(mine, listenOnly ? "silence" : "microphone");
    status(listenOnly ? "Connected, listening" : "Connected", "good");
    logEvent(listenOnly ? "You joined the session and listen only." : "You joined the session with your microphone.");
    current.view.start();
  } catch (cause) {
    const why = failureSentence(cause);
    if (current) tearDown("Not connected");
    else {
      mine?.getTracks().forEach((t) => t.stop());
      void context.close();
      status("Not connected", "off");
    }
    complain(why);
  } finally {
    busy = false;
    buttons();
  }
}

function setUp(place: Place, context: AudioContext, mine: MediaStream, listenOnly: boolean): Connection {
  const mic = new Meter(context, byId("mic-meter"));
  const line = new Meter(context, byId("line-meter"));
  mic.add(mine);
  const account = new Account(place);
  const names = new Map([
    [place.participantId, "you"],
    [place.phoneParticipantId, "the phone"],
  ]);
  const phone = new Phone(place, account, {
    failed: (cause) => complain(failureSentence(cause)),
    began: () => complain(""),
    refresh: () => view.refresh(),
    key: (key) => {
      if (!device.sendKey(key)) complain("This connection can't send keys yet. Try again in a moment.");
    },
  });
  const view = new SessionView(place, account, {
    dialogs: (list) => phone.show(list),
    failed: (cause) => complain(failureSentence(cause)),
    recovered: () => complain(""),
  });
  const device = new Device(socketUrl(place), place.token, place.iceServers ?? [], {
    reconnecting: () => {
      status("Reconnecting…", "wait");
      logEvent("The connection to the gateway is interrupted. Trying to get it back.", "bad");
    },
    reconnected: () => {
      status(listenOnly ? "Connected, listening" : "Connected", "good");
      logEvent("The connection is back.");
    },
    ended: (reason) => {
      if (!current) return;
      tearDown("Disconnected");
      complain(`${reason.replace(/[.\s]*$/, "")}. Connect again to go on.`);
    },
    streamAdded: (stream, info) => hear(stream, info),
    streamRemoved: (id) => unhear(id),
    notified: (method, params) => notified(method, params),
    failed: (what) => logEvent(`Media: ${what}`, "bad"),
  });
  return { place, device, context, mine, listenOnly, mic, line, view, phone, names };
}

function socketUrl(place: Place): string {
  return place.wsUrl || location.origin.replace(/^http/, "ws");
}

function tearDown(text: string): void {
  const c = current;
  if (!c) return;
  current = undefined;
  c.view.stop();
  c.phone.close();
  c.device.leave();
  c.mic.clear();
  c.line.clear();
  c.mine.getTracks().forEach((t) => t.stop());
  void c.context.close();
  byId("sound").replaceChildren();
  status(text, "off");
  buttons();
}

/** hear plays a stream that the gateway offers. */
function hear(stream: MediaStream, info: StreamInfo): void {
  const c = current;
  if (!c) return;
  const player = document.createElement("audio");
  player.autoplay = true;
  player.srcObject = stream;
  player.dataset.stream = stream.id;
  byId("sound").append(player);
  player.play().catch(() => {
    byId("unblock").hidden = false;
    logEvent("The browser holds the sound back until you turn it on.", "bad");
  });
  c.line.add(stream);
  logEvent(`You hear ${nameOf(info.participantId)}${info.alias ? ` (${info.alias})` : ""}.`);
}

function unhear(id: string): void {
  current?.line.remove(id);
  for (const player of byId("sound").querySelectorAll("audio")) {
    if (player.dataset.stream === id) player.remove();
  }
  logEvent("A stream has ended.");
}

function nameOf(participant: unknown): string {
  if (typeof participant !== "string") return "a participant";
  return current?.names.get(participant) ?? `participant ${participant.slice(0, 8)}`;
}

function notified(method: string, params: Params): void {
  switch (method) {
    case "dialogStateChange":
      current?.view.refresh();
      return;
    case "dtmf":
      logEvent(`Key ${String(params.digit)} from ${nameOf(params.participantId)}.`);
      return;
    case "streamMuted":
      logEvent(`${nameOf(params.participantId)} ${params.muted === false ? "sends sound again" : "is muted"}.`);
      return;
  }
}

function toggleMute(): void {
  const track = current?.mine.getAudioTracks()[0];
  if (!track || current?.listenOnly) return;
  track.enabled = !track.enabled;
  logEvent(track.enabled ? "Your microphone is on." : "Your microphone is muted.");
  buttons();
}

/** buttons shows and enables what makes sense now. */
function buttons(): void {
  const c = current;
  const live = c !== undefined && !busy;
  byId("intro").hidden = live;
  byId("live").hidden = !live;
  byId<HTMLButtonElement>("connect").disabled = busy;
  byId<HTMLButtonElement>("listen").disabled = busy;
  if (!live) {
    byId("unblock").hidden = true;
    return;
  }
  const muted = c.mine.getAudioTracks()[0]?.enabled === false;
  const mute = byId<HTMLButtonElement>("mute");
  mute.hidden = c.listenOnly;
  mute.textContent = muted ? "Microphone is muted" : "Mute microphone";
  mute.setAttribute("aria-pressed", String(muted));
  byId("mic-meter").parentElement!.hidden = c.listenOnly;
}

function draw(): void {
  current?.mic.draw();
  current?.line.draw();
  requestAnimationFrame(draw);
}

byId("connect").addEventListener("click", () => void connect(false));
byId("listen").addEventListener("click", () => void connect(true));
byId("mute").addEventListener("click", toggleMute);
byId("clear").addEventListener("click", clearLog);
byId("disconnect").addEventListener("click", () => {
  tearDown("Not connected");
  logEvent("You left the session.");
  byId("connect").focus();
});
byId("unblock").addEventListener("click", () => {
  byId("unblock").hidden = true;
  void current?.context.resume();
  for (const player of byId("sound").querySelectorAll("audio")) void player.play();
});
addEventListener("pagehide", () => tearDown("Not connected"));
requestAnimationFrame(draw);
