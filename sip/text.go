package sip

import (
	"strings"
	"unicode"
)

// printable makes s fit for a log line or a header: control characters go, and what is beyond limit bytes.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return strings.TrimSpace(s)
}

// quoted renders s as a quoted-string (RFC 3261 §25.1).
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(s, 200)) + `"`
}

// hasControl says whether s could break out of a header.
func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }
