package sip

import (
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// What this agent does, told in Allow and Supported: exactly this, and nowhere else.
const (
	// allowed lists the methods that call.serve and Agent.dispatch know.
	allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY"
	// supported lists the option tags that a peer may require of us: RFC 3262, 6228, 4488, 3891, 4028 and 7433.
	supported = "100rel, 199, norefersub, replaces, timer, uui"
)

// refusedMethod is the status for a method that we do not take: 501 where we do not know it, 405 where we do
// (RFC 3261 §21.5.2, RFC 4475 §3.1.1.2).
func refusedMethod(method sip.RequestMethod) int {
	if isKnownMethod(method.String()) {
		return sip.StatusMethodNotAllowed
	}
	return sip.StatusNotImplemented
}

// unsupported lists what a request requires and we do not know; empty: nothing.
func unsupported(req *sip.Request) string {
	known := strings.Split(supported, ", ")
	var extensions []string
	for _, h := range req.GetHeaders("Require") {
		for tag := range strings.SplitSeq(h.Value(), ",") {
			tag = printable(strings.TrimSpace(tag), 200)
			if tag != "" && !slices.Contains(known, strings.ToLower(tag)) {
				extensions = append(extensions, tag)
			}
		}
	}
	return strings.Join(extensions, ", ")
}

// withinOnly are the methods that mean something only within a call: outside they are answered 481.
//
//nolint:gochecknoglobals // a constant table
var withinOnly = []sip.RequestMethod{sip.BYE, sip.INFO, sip.NOTIFY, sip.PRACK, sip.UPDATE}
