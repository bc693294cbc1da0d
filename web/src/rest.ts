// The REST API as an application uses it, with the demo account's credentials.

/** What POST /demo/join answers: a place in a session, and the account to drive it with. */
export interface Place {
  sessionId: string;
  participantId: string;
  token: string;
  phoneParticipantId: string;
  /** The number that the called phone sees. */
  from: string;
  numbers: LabNumber[];
  accountId: string;
  username: string;
  password: string;
  apiUrl: string;
  wsUrl: string;
  iceServers?: RTCIceServer[];
}

export interface LabNumber {
  number: string;
  label: string;
}

export interface Participant {
  id: string;
  tag?: string;
  publishPermissions?: string[];
}

export type DialogState = "NEW" | "CALLING" | "RINGING" | "ANSWERED" | "TERMINATED";

export interface Dialog {
  dialogId: string;
  state: DialogState;
  direction?: string;
  dialogStateData: { to: string; from: string };
  eventData?: { reason?: string; details?: string; sipCode?: number };
  createdTime?: string;
  answeredTime?: string;
}

/** A refusal, in words for a person; status is 0 when nobody answered. */
export class Refusal extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

const silence = "The gateway does not answer. Is it still running?";

export async function join(): Promise<Place> {
  const response = await fetch("demo/join", { method: "POST" }).catch(() => {
    throw new Refusal(0, silence);
  });
  if (response.status === 404) {
    throw new Refusal(404, "This gateway has no demo account. Start it with “tandem serve --demo” to use this page.");
  }
  return read<Place>(response);
}

export class Account {
  private readonly base: string;
  private readonly authorization: string;

  constructor(place: Place) {
    // The page and the API have one origin; only the path comes from the gateway's own idea of its address.
    const path = new URL(place.apiUrl || "/v1", location.href).pathname.replace(/\/+$/, "");
    this.base = `${path.endsWith("/v1") ? path : path + "/v1"}/accounts/${encodeURIComponent(place.accountId)}`;
    this.authorization = "Basic " + btoa(`${place.username}:${place.password}`);
  }

  participants(session: string): Promise<Participant[]> {
    return this.request("GET", `/sessions/${session}/participants`);
  }

  dialogs(session: string, participant: string): Promise<Dialog[]> {
    return this.request("GET", `/sessions/${session}/participants/${participant}/dialogs`);
  }

  call(participant: string, to: string, from: string): Promise<Dialog> {
    return this.request("POST", `/participants/${participant}/dialogs`, {
      dialogType: "SIP",
      dialogStateData: { to, from },
    });
  }

  hangUp(participant: string, dialog: string): Promise<Dialog> {
    return this.request("PATCH", `/participants/${participant}/dialogs/${dialog}`, { state: "TERMINATED" });
  }

  private async request<T>(method: string, path: string, body?: object): Promise<T> {
    const response = await fetch(this.base + path, {
      method,
      headers: {
        Authorization: this.authorization,
        ...(body && { "Content-Type": "application/json" }),
      },
      body: body && JSON.stringify(body),
    }).catch(() => {
      throw new Refusal(0, silence);
    });
    return read<T>(response);
  }
}

async function read<T>(response: Response): Promise<T> {
  if (response.status === 204) return [] as T;
  const text = await response.text();
  const body = parse(text);
  if (response.ok && body !== undefined) return body as T;
  const said = (body ?? {}) as { error?: string; message?: string };
  const plain = text.length > 0 && text.length < 200 && !text.startsWith("<") ? text.trim() : undefined;
  throw new Refusal(
    response.status,
    said.error ?? said.message ?? plain ?? `The gateway answered with status ${response.status}.`,
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
