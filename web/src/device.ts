// A browser as a device of the gateway: one peer connection that sends, one that receives.

import { RpcSocket, type Params } from "./rpc";

/** What the gateway says about a stream. */
export interface StreamInfo {
  participantId?: string;
  alias?: string;
}

export interface DeviceEvents {
  reconnecting(): void;
  reconnected(): void;
  ended(reason: string): void;
  streamAdded(stream: MediaStream, info: StreamInfo): void;
  streamRemoved(id: string): void;
  notified(method: string, params: Params): void;
  failed(what: string): void;
}

export class Device {
  private readonly socket: RpcSocket;
  private readonly sending: RTCPeerConnection;
  private readonly receiving: RTCPeerConnection;
  private readonly iceServers: RTCIceServer[];
  private revision = 0;
  private streams = new Map<string, StreamInfo>();
  private heard = new Set<string>();
  private aliases: Record<string, { alias?: string }> = {};
  private dtmf: RTCDTMFSender | null = null;
  // Offers and answers of one peer connection follow one another, each on its own queue.
  private sendQueue: Promise<unknown> = Promise.resolve();
  private receiveQueue: Promise<unknown> = Promise.resolve();
  private onFirstOpen?: { resolve(): void; reject(cause: Error): void };

  constructor(wsUrl: string, token: string, iceServers: RTCIceServer[], private readonly events: DeviceEvents) {
    this.iceServers = iceServers;
    const query = new URLSearchParams({ token, client: "demo", sdkVersion: "1", uniqueId: randomId() });
    this.socket = new RpcSocket(`${wsUrl.replace(/\/+$/, "")}/v3/?${query}`, {
      opened: (again) => (again ? events.reconnected() : this.onFirstOpen?.resolve()),
      lost: () => events.reconnecting(),
      ended: (reason) => {
        this.onFirstOpen?.reject(new Error(reason));
        this.closePeers();
        events.ended(reason);
      },
      notified: (method, params) => {
        if (method === "sdpOffer") this.receiveQueue = this.receiveQueue.then(() => this.takeOffer(params));
        else if (method === "offerWanted") this.offer(false).catch((e: Error) => events.failed(e.message));
        else events.notified(method, params);
      },
    });
    this.sending = this.newPeer();
    this.receiving = this.newPeer();
    this.receiving.ontrack = (event) => this.trackAdded(event);
    this.sending.onconnectionstatechange = () => {
      if (this.sending.connectionState === "failed") this.offer(true).catch((e: Error) => events.failed(e.message));
    };
  }

  /** Opens the signalling; media follows with publish and with what the gateway offers. */
  async connect(): Promise<void> {
    const opened = new Promise<void>((resolve, reject) => (this.onFirstOpen = { resolve, reject }));
    this.socket.open();
    await opened;
    await this.socket.call("setMediaPreferences", { protocol: "WEBRTC", offersWhenWanted: true });
  }

  /** Sends the tracks of a stream to the gateway. */
  async publish(stream: MediaStream, alias: string): Promise<void> {
    for (const track of stream.getTracks()) {
      const { sender } = this.sending.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      if (track.kind === "audio") this.dtmf ??= sender.dtmf;
    }
    this.aliases[stream.id] = { alias };
    await this.offer(false);
  }

  /** Sends a telephone key; false when the connection can't carry keys (yet). */
  sendKey(key: string): boolean {
    if (!this.dtmf?.canInsertDTMF) return false;
    // Keys that are still waiting are kept: insertDTMF replaces the whole queue.
    this.dtmf.insertDTMF(this.dtmf.toneBuffer + key, 160, 80);
    return true;
  }

  leave(): void {
    this.socket.leave();
    this.closePeers();
  }

  private closePeers(): void {
    this.sending.close();
    this.receiving.close();
  }

  private newPeer(): RTCPeerConnection {
    const peer = new RTCPeerConnection({
      iceServers: this.iceServers,
      bundlePolicy: "max-bundle",
      rtcpMuxPolicy: "require",
    });
    const heartbeat = peer.createDataChannel("__heartbeat__", { negotiated: true, id: 0, protocol: "udp" });
    heartbeat.onmessage = (event) => {
      if (event.data === "PING" && heartbeat.readyState === "open") heartbeat.send("PONG");
    };
    peer.createDataChannel("__diagnostics__", { negotiated: true, id: 1, protocol: "udp" });
    return peer;
  }

  private offer(iceRestart: boolean): Promise<void> {
    const next = this.sendQueue.then(async () => {
      const offer = await this.sending.createOffer({ iceRestart });
      await this.sending.setLocalDescription(offer);
      const answer = await this.socket.call("offerSdp", {
        sdpOffer: offer.sdp,
        mediaMetadata: { mediaStreams: this.aliases, dataChannels: {} },
      });
      await this.sending.setRemoteDescription({ type: "answer", sdp: String(answer.sdpAnswer) });
    });
    this.sendQueue = next.catch(() => undefined);
    return next;
  }

  private async takeOffer(params: Params): Promise<void> {
    const revision = Number(params.sdpRevision);
    if (revision <= this.revision) return; // repeated: it was answered already
    try {
      this.streams = new Map(Object.entries((params.streamMetadata ?? {}) as Record<string, StreamInfo>));
      await this.receiving.setRemoteDescription({ type: "offer", sdp: String(params.sdpOffer) });
      const answer = await this.receiving.createAnswer();
      // The gateway is the DTLS client on both connections.
      const sdp = (answer.sdp ?? "").replace(/a=setup:active/g, "a=setup:passive");
      await this.receiving.setLocalDescription({ type: "answer", sdp });
      await this.socket.call("answerSdp", { sdpAnswer: sdp });
      this.revision = revision;
    } catch (cause) {
      this.events.failed((cause as Error).message);
    }
  }

  private trackAdded(event: RTCTrackEvent): void {
    for (const stream of event.streams) {
      stream.onremovetrack = () => {
        if (stream.getTracks().length === 0 && this.heard.delete(stream.id)) this.events.streamRemoved(stream.id);
      };
      if (this.heard.has(stream.id)) continue;
      this.heard.add(stream.id);
      this.events.streamAdded(stream, this.streams.get(stream.id) ?? {});
    }
  }
}

/** randomUUID exists only on secure pages; this works on every page. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
