// Package load is the load generator behind tandem bench. It starts a gateway as a child process, calls it with phones
// (SIP, G.711 over RTP) and browsers (the device protocol, Opus over Pion), and tells what the gateway costs and what
// it does to the packets.
//
// Every packet carries a mark in its sound, three tones whose combination changes with each packet, so a packet counts
// as arrived only when its own sound did: silence or concealment in its place doesn't count. Both directions are told
// apart packet by packet after the hold, from what was recorded during it.
package load
