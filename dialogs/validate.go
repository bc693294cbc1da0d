package dialogs

import (
	"strings"
	"time"
	"unicode"

	"tandem/errs"
	"tandem/trunks"
)

const (
	// maxUserToUser bounds the header value, in bytes: a request over UDP must stay below 1300 (RFC 3261 §18.1.1).
	maxUserToUser  = 1024
	maxRingTimeout = 10 * time.Minute
	maxMaxDuration = 24 * time.Hour
)

func (c Create) validate() error {
	if !isSIPURI(c.To) && !trunks.IsE164(c.To) {
		return errs.New(errs.Invalid, "to: %q is not a number in E.164 format, such as +15550100", c.To)
	}
	if c.From != FromUnknown && c.From != FromRestricted && !trunks.IsE164(c.From) {
		return errs.New(errs.Invalid, "from: %q is neither a number in E.164 format, such as +15550100, nor UNKNOWN or RESTRICTED", c.From)
	}
	if len(c.UserToUser) > maxUserToUser {
		return errs.New(errs.Invalid, "userToUser: has %d bytes, at most %d are allowed", len(c.UserToUser), maxUserToUser)
	}
	if strings.ContainsFunc(c.UserToUser, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return errs.New(errs.Invalid, "userToUser: must not contain control characters")
	}
	if err := trunks.CheckHeaders(c.Headers); err != nil {
		return err
	}
	if c.RingTimeout < 0 || c.RingTimeout > maxRingTimeout {
		return errs.New(errs.Invalid, "ringTimeout: must be between 1 and %d seconds", int(maxRingTimeout.Seconds()))
	}
	if c.MaxDuration < 0 || c.MaxDuration > maxMaxDuration {
		return errs.New(errs.Invalid, "maxDuration: must be between 1 and %d seconds", int(maxMaxDuration.Seconds()))
	}
	return nil
}
