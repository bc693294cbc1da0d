package sessions

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"tandem/errs"
)

// maxURL bounds a callback URL, in bytes.
const maxURL = 2048

func validateTag(tag string) error {
	if !utf8.ValidString(tag) {
		return errs.New(errs.Invalid, "tag: must be valid UTF-8")
	}
	if n := utf8.RuneCountInString(tag); n > MaxTag {
		return errs.New(errs.Invalid, "tag: has %d characters, at most %d are allowed", n, MaxTag)
	}
	if strings.ContainsRune(tag, 0) {
		return errs.New(errs.Invalid, "tag: must not contain the character NUL")
	}
	return nil
}

func validateCallbackURL(raw string) error {
	if raw == "" {
		return nil
	}
	if len(raw) > maxURL {
		return errs.New(errs.Invalid, "callbackUrl: has %d bytes, at most %d are allowed", len(raw), maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return errs.New(errs.Invalid, "callbackUrl: must be an absolute http or https URL, such as https://example.com/callback")
	}
	return nil
}

// validateSubscriptions checks subs, asked for by somebody in session, against the session's members. A list of
// participants overrides the session, so what the session says is of no matter then.
func validateSubscriptions(subs Subscriptions, session string, members []Participant) error {
	if subs.Session != "" && subs.Session != session && len(subs.Participants) == 0 {
		return errs.New(errs.Invalid, "sessionId: is %q, but the path names session %q", subs.Session, session)
	}
	for i, want := range subs.Participants {
		if want.Participant == "" {
			return errs.New(errs.Invalid, "participants[%d].participantId: is missing", i)
		}
		if !slices.ContainsFunc(members, func(p Participant) bool { return p.ID == want.Participant }) {
			return errs.New(errs.Invalid, "participants[%d].participantId: %q is not in session %q; add it to the session first",
				i, want.Participant, session)
		}
		if slices.Contains(want.StreamAliases, "") {
			return errs.New(errs.Invalid, "participants[%d].streamAliases: must not contain an empty name", i)
		}
	}
	return nil
}
