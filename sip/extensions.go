package sip

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// reliable1xx is the option tag of provisional answers that are acknowledged (RFC 3262).
const reliable1xx = "100rel"

// hasOption says whether a list header, Supported or Require, names an option tag. Compact is the header's short name,
// empty if it has none.
func hasOption(msg sip.Message, name, compact, option string) bool {
	for _, h := range append(msg.GetHeaders(name), msg.GetHeaders(compact)...) {
		for _, tag := range splitList(h.Value()) {
			if strings.EqualFold(tag, option) {
				return true
			}
		}
	}
	return false
}

func supports(msg sip.Message, option string) bool { return hasOption(msg, "Supported", "k", option) }

func requires(msg sip.Message, option string) bool { return hasOption(msg, "Require", "", option) }
