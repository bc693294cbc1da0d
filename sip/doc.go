// Package sip is the gateway's SIP user agent: listeners, trunks, digest, offer and answer, calls. It stands on the
// transport and transaction layers of sipgo; dialogs (RFC 3261 §12) are its own, one goroutine each.
package sip
