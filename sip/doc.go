// Package sip is the gateway's SIP user agent: listeners, trunks, digest, offer and answer, calls.
package sip
