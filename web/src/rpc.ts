// The transport of the device protocol: JSON-RPC 2.0 over a WebSocket that comes back by itself.

export type Params = Record<string, unknown>;

/** What the owner of a socket is told. */
export interface SocketEvents {
  /** The socket is open: for the first time, or again after it was lost. */
  opened(again: boolean): void;
  /** The gateway says something without being asked. */
  notified(method: string, params: Params): void;
  /** The socket broke; attempts to open it again have begun. */
  lost(): void;
  /** It will not come back: the gateway ended it, or it was gone for too long. */
  ended(reason: string): void;
}

interface Message {
  id?: number | null;
  method?: string;
  params?: Params;
  result?: Params;
  error?: { code: number; message: string };
}

interface Pending {
  resolve(result: Params): void;
  reject(cause: Error): void;
  timer: number;
}

/** The close code that means: do not come back. */
const closedForGood = 1000;
/** How long the gateway keeps a lost device's place, in ms. Later, everything has to be set up again. */
const grace = 20_000;
const retryEvery = 1_000;
const answerWithin = 10_000;
const pingEvery = 30_000;

export class RpcSocket {
  private socket?: WebSocket;
  private pending = new Map<number, Pending>();
  private lastId = 0;
  private openedOnce = false;
  private lostAt = 0;
  private done = false;
  private refusal = "";
  private pinger?: number;
  private retry?: number;

  constructor(private readonly url: string, private readonly events: SocketEvents) {}

  open(): void {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => {
      const again = this.openedOnce;
      this.openedOnce = true;
      this.lostAt = 0;
      this.pinger = window.setInterval(() => this.ping(), pingEvery);
      this.events.opened(again);
    };
    socket.onmessage = (event) => this.receive(String(event.data));
    socket.onclose = (event) => this.closed(event);
  }

  /** Calls a method and waits for its result. */
  call(method: string, params: Params): Promise<Params> {
    return new Promise((resolve, reject) => {
      const id = ++this.lastId;
      const timer = window.setTimeout(() => {
        this.pending.delete(id);
        reject(new Error(`The gateway did not answer "${method}" within ${answerWithin / 1000} seconds.`));
      }, answerWithin);
      this.pending.set(id, { resolve, reject, timer });
      if (!this.send({ jsonrpc: "2.0", id, method, params })) {
        this.settle(id)?.reject(new Error("The connection to the gateway is interrupted."));
      }
    });
  }

  notify(method: string, params: Params = {}): void {
    this.send({ jsonrpc: "2.0", method, params });
  }

  /** Says goodbye and closes for good; nothing is reported afterwards. */
  leave(): void {
    this.done = true;
    this.notify("leave");
    this.stop("The connection was closed.");
    this.socket?.close(closedForGood);
  }

  private send(message: object): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  private ping(): void {
    const socket = this.socket;
    this.call("ping", {}).catch(() => {
      // No answer in time means a dead path that TCP has not noticed: a new socket finds out.
      if (socket === this.socket) socket?.close(4000, "no answer to ping");
    });
  }

  private receive(text: string): void {
    const message = parse(text);
    if (!message) return;
    if (typeof message.method === "string") {
      this.events.notified(message.method, message.params ?? {});
      return;
    }
    const pending = typeof message.id === "number" ? this.settle(message.id) : undefined;
    if (message.error) {
      this.refusal = message.error.message;
      pending?.reject(new Error(message.error.message));
      return;
    }
    pending?.resolve(message.result ?? {});
  }

  private settle(id: number): Pending | undefined {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    window.clearTimeout(pending?.timer);
    return pending;
  }

  private closed(event: CloseEvent): void {
    this.stop("The connection to the gateway broke.");
    if (this.done) return;
    const now = performance.now();
    if (event.code === closedForGood) {
      this.end(event.reason || this.refusal || "The gateway ended the connection.");
      return;
    }
    if (!this.openedOnce) {
      this.end("The gateway's device connection could not be opened.");
      return;
    }
    if (this.lostAt === 0) {
      this.lostAt = now;
      this.events.lost();
    }
    if (now - this.lostAt > grace) {
      this.end("The connection was lost and did not come back within 20 seconds.");
      return;
    }
    this.retry = window.setTimeout(() => this.open(), retryEvery);
  }

  private end(reason: string): void {
    this.done = true;
    this.events.ended(reason);
  }

  private stop(reason: string): void {
    window.clearInterval(this.pinger);
    window.clearTimeout(this.retry);
    for (const id of [...this.pending.keys()]) this.settle(id)?.reject(new Error(reason));
  }
}

function parse(text: string): Message | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Message) : undefined;
  } catch {
    return undefined;
  }
}
