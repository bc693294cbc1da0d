// The SDK hides its peer connections. This keeps a list of all that the page makes; it must run before the SDK loads.

export const peers = [];

const Native = window.RTCPeerConnection;

window.RTCPeerConnection = class extends Native {
  constructor(...args) {
    super(...args);
    peers.push(this);
  }
};
