// What the tests call in the page: the published SDK, unmodified, behind functions with JSON arguments and results.

import { peers } from "./peers.js";
import { record } from "./sound.js";
import BandwidthRtc from "@bandwidth/webrtc-browser";
import { Device } from "../../../web/src/device";

let rtc;
/** Streams of others that are available now, by id. */
const streams = new Map();
/** Streams of our own, by id. */
const published = new Map();
/** What the SDK reported, in order. */
const events = [];

const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

function mustHave(map, id) {
  const found = map.get(id);
  if (!found) throw new Error(`no stream ${id}, only ${[...map.keys()].join(", ") || "none"}`);
  return found;
}

/** What a test may see of an RtcStream. */
function view(stream) {
  return {
    id: stream.endpointId,
    alias: stream.alias ?? "",
    participantId: stream.participantId ?? "",
    mediaTypes: stream.mediaTypes,
    audio: stream.mediaStream.getAudioTracks().length,
    video: stream.mediaStream.getVideoTracks().length,
  };
}

async function keep(promise) {
  const stream = await promise;
  published.set(stream.endpointId, stream);
  return view(stream);
}

/** The statistics of a kind, of the first track of the stream, with the codec's name. */
async function statistics(mediaStream, direction, kind) {
  const track = mediaStream.getTracks().find((t) => t.kind === kind);
  for (const peer of peers) {
    const ends = direction === "inbound" ? peer.getReceivers() : peer.getSenders();
    const end = ends.find((e) => e.track && e.track === track);
    if (!end || peer.connectionState === "closed") continue;
    const report = await end.getStats();
    for (const s of report.values()) {
      if (s.type !== `${direction}-rtp` || s.kind !== kind) continue;
      return { ...s, codec: report.get(s.codecId)?.mimeType ?? "" };
    }
  }
  return {};
}

window.tandem = {
  async connect(deviceToken, websocketUrl) {
    rtc = new BandwidthRtc("warn");
    rtc.onStreamAvailable((stream) => {
      streams.set(stream.endpointId, stream);
      events.push({ event: "available", ...view(stream) });
    });
    rtc.onStreamUnavailable((id) => {
      streams.delete(id);
      events.push({ event: "unavailable", id });
    });
    await rtc.connect({ deviceToken }, { websocketUrl });
  },

  /** Like connect, for a connection that is not expected to come about. */
  startConnect(deviceToken, websocketUrl) {
    window.tandem.connect(deviceToken, websocketUrl).catch((error) => console.log("connect:", String(error)));
  },

  /** constraints.audio true: the microphone as it is, without processing. */
  publish({ audio, video }, alias) {
    return keep(rtc.publish({ audio: audio && plain, video }, undefined, alias || undefined));
  },

  /** Publishes a moving picture drawn on a canvas, as a screen is, with one codec or the browser's choice. */
  publishCanvas(alias, codec) {
    const canvas = document.createElement("canvas");
    canvas.width = 320;
    canvas.height = 240;
    const pen = canvas.getContext("2d");
    let frame = 0;
    setInterval(() => {
      pen.fillStyle = `hsl(${(frame * 3) % 360} 80% 50%)`;
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = "#fff";
      pen.fillRect((frame * 5) % canvas.width, 100, 40, 40);
      frame++;
    }, 66);
    const codecs = codec && RTCRtpReceiver.getCapabilities("video").codecs.filter((c) => named(c, codec));
    if (codec && codecs.length === 0) throw new Error(`this browser has no ${codec}`);
    return keep(rtc.publish(canvas.captureStream(15), undefined, alias, codec ? { video: codecs } : undefined));
  },

  /** The names of the video codecs that this browser can send. */
  videoCodecs() {
    const names = RTCRtpSender.getCapabilities("video").codecs.map((c) => c.mimeType.replace(/^video\//, ""));
    return [...new Set(names)].filter((n) => /^(VP8|VP9|AV1|H264)$/.test(n));
  },

  async unpublish(id) {
    await rtc.unpublish(mustHave(published, id));
    published.delete(id);
  },

  /** Joins as the demo page does, without the published SDK, and publishes the microphone as it is. */
  async joinAsDemo(deviceToken, websocketUrl) {
    const ignore = () => undefined;
    const device = new Device(websocketUrl, deviceToken, [], {
      reconnecting: ignore,
      reconnected: ignore,
      ended: (reason) => console.log("ended:", reason),
      streamAdded: ignore,
      streamRemoved: ignore,
      notified: ignore,
      failed: (what) => console.log("failed:", what),
    });
    await device.connect();
    await device.publish(await navigator.mediaDevices.getUserMedia({ audio: plain }), "microphone");
  },

  setMicEnabled: (enabled) => rtc.setMicEnabled(enabled),
  sendDtmf: (keys) => rtc.sendDtmf(keys),
  disconnect: () => rtc.disconnect(),

  streams: () => [...streams.values()].map(view),
  events: () => events,
  record: (id, seconds) => record(mustHave(streams, id).mediaStream, seconds),
  received: (id, kind) => statistics(mustHave(streams, id).mediaStream, "inbound", kind),
  sent: (id, kind) => statistics(mustHave(published, id).mediaStream, "outbound", kind),

  /** m-lines and state of each peer connection, in the order in which they were made. */
  peers: () =>
    peers.map((p) => ({
      state: p.connectionState,
      lines: (p.remoteDescription?.sdp.match(/^m=/gm) ?? []).length,
    })),

  /** Sends the microphone through a pair of peer connections inside the page and records the far end. */
  async loopback(seconds) {
    const mine = await navigator.mediaDevices.getUserMedia({ audio: plain });
    const [a, b] = [new RTCPeerConnection(), new RTCPeerConnection()];
    a.onicecandidate = ({ candidate }) => candidate && b.addIceCandidate(candidate);
    b.onicecandidate = ({ candidate }) => candidate && a.addIceCandidate(candidate);
    const arrived = new Promise((resolve) => (b.ontrack = ({ streams: [s] }) => resolve(s)));
    a.addTrack(mine.getAudioTracks()[0], mine);
    await a.setLocalDescription();
    await b.setRemoteDescription(a.localDescription);
    await b.setLocalDescription();
    await a.setRemoteDescription(b.localDescription);
    const samples = await record(await arrived, seconds);
    a.close();
    b.close();
    mine.getTracks().forEach((t) => t.stop());
    return samples;
  },
};

/** Whether a codec is the one that is asked for, or one that comes along with every codec. */
function named(codec, name) {
  return codec.mimeType === `video/${name}` || /^video\/(rtx|red|ulpfec)$/.test(codec.mimeType);
}
