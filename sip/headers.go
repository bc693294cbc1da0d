package sip

import (
	"maps"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"tandem/trunks"
)

// appendExtra writes the headers of an application into its INVITE.
func appendExtra(req *sip.Request, headers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		req.AppendHeader(sip.NewHeader(name, headers[name]))
	}
}

// extraHeaders returns the X- headers of an INVITE that its trunk lets pass, one that comes several times with its values
// joined by commas (RFC 3261 §7.3.1); those beyond the bounds are left out. Nil: there are none.
func extraHeaders(req *sip.Request, t *trunk) map[string]string {
	var found map[string]string
	for _, h := range req.Headers() {
		name := h.Name()
		if !trunks.IsExtraHeader(name) || !t.Passes(name) {
			continue
		}
		value := printable(h.Value(), trunks.MaxHeaderValue)
		if found == nil {
			found = map[string]string{}
		}
		known := name
		for other := range found {
			if strings.EqualFold(other, name) {
				known = other
			}
		}
		before, again := found[known]
		switch {
		case !again && len(found) < trunks.MaxHeaders:
			found[name] = value
		case again && len(before)+2+len(value) <= trunks.MaxHeaderValue:
			found[known] = before + ", " + value
		}
	}
	return found
}
