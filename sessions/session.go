// Package sessions knows who is here and who hears whom: sessions, participants, subscriptions, and the endpoints
// through which their media flows.
package sessions

import "time"

// MaxTag is the longest tag, in characters.
const MaxTag = 50

// Session groups participants that may hear and see each other.
type Session struct {
	ID      string
	Account string
	Tag     string // at most MaxTag characters
	// Passthrough lets browsers have the G.711 of phones as it comes, if they take it, and publish it.
	Passthrough bool

	Created time.Time
	Expires time.Time
}

// NewSession is what the application says of a session that it creates.
type NewSession struct {
	Tag         string
	Passthrough bool
}
