package sip

import (
	"maps"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"tandem/errs"
	"tandem/trunks"
)

const (
	maxExtraHeaders = 16  // that one call may carry, each way
	maxExtraValue   = 512 // bytes of one
)

// checkExtra refuses extra headers that would break out of their line or are too much for a request.
func checkExtra(headers map[string]string) error {
	if len(headers) > maxExtraHeaders {
		return errs.New(errs.Invalid, "headers: at most %d are allowed", maxExtraHeaders)
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value := headers[name]
		switch {
		case !trunks.IsExtraHeader(name):
			return errs.New(errs.Invalid, "headers.%s: the name must begin with X- and be a token", printable(name, 60))
		case len(value) > maxExtraValue:
			return errs.New(errs.Invalid, "headers.%s: has %d bytes, at most %d are allowed", name, len(value), maxExtraValue)
		case hasControl(value):
			return errs.New(errs.Invalid, "headers.%s: control characters are not allowed", name)
		}
	}
	return nil
}

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
		value := printable(h.Value(), maxExtraValue)
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
		case !again && len(found) < maxExtraHeaders:
			found[name] = value
		case again && len(before)+2+len(value) <= maxExtraValue:
			found[known] = before + ", " + value
		}
	}
	return found
}
