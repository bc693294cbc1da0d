package sip

import (
	"context"
	"log/slog"
)

// libraryLog hands the library's records on at debug level: most of them report what a peer sent, so any other level
// would let peers fill the log. Raw messages are left out, for they hold tokens.
type libraryLog struct{ next slog.Handler }

// Enabled is asked for whatever level: all records become debug records.
func (h libraryLog) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.next.Enabled(ctx, slog.LevelDebug)
}

// Handle passes a record on.
func (h libraryLog) Handle(ctx context.Context, r slog.Record) error {
	quiet := slog.NewRecord(r.Time, slog.LevelDebug, "sipgo: "+r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "data", "req", "res", "msg", "invite_request", "invite_response", "cancel_request":
		default:
			quiet.AddAttrs(a)
		}
		return true
	})
	return h.next.Handle(ctx, quiet)
}

// WithAttrs and WithGroup keep the wrapper around.
func (h libraryLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return libraryLog{h.next.WithAttrs(attrs)}
}

// WithGroup is part of slog.Handler.
func (h libraryLog) WithGroup(name string) slog.Handler { return libraryLog{h.next.WithGroup(name)} }
