// Package errs holds the one error type that may cross package borders and reach a stranger.
package errs

import (
	"errors"
	"fmt"
	"time"
)

// Code says what kind of failure an Error is. Each adapter maps it to its wire in one table.
type Code int

// The codes, in the order of the HTTP statuses that they become.
const (
	Internal        Code = iota // ours; the message is not shown
	Invalid                     // the request is wrong: the message names the field and what was expected
	Unauthenticated             // no valid credentials
	Forbidden                   // valid credentials, but not for this
	NotFound                    // no such thing, or not this account's
	Conflict                    // right request, wrong moment
	TooMany                     // a limit of the account
	Unavailable                 // try again later
)

// Codes lists every code, for tables that must be complete.
func Codes() []Code {
	return []Code{Internal, Invalid, Unauthenticated, Forbidden, NotFound, Conflict, TooMany, Unavailable}
}

// String returns the word that logs show.
func (c Code) String() string {
	switch c {
	case Internal:
		return "internal"
	case Invalid:
		return "invalid"
	case Unauthenticated:
		return "unauthenticated"
	case Forbidden:
		return "forbidden"
	case NotFound:
		return "not found"
	case Conflict:
		return "conflict"
	case TooMany:
		return "too many"
	case Unavailable:
		return "unavailable"
	}
	return fmt.Sprintf("code %d", int(c))
}

// Error is a failure with a message that may be shown to whoever asked. Err is for the log only.
type Error struct {
	Code       Code
	Message    string
	Err        error
	RetryAfter time.Duration // TooMany, Unavailable: when it may be tried again; 0: nobody knows
}

// After says when it may be tried again, and returns the same Error.
func (e *Error) After(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// New makes an Error with a message for the asker.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap keeps err for the log and gives the asker code and message.
func Wrap(err error, code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: err}
}

// Error returns the message and, after it, the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of err: Internal for an error of another type.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// RetryAfterOf returns when what failed may be tried again; 0: nobody knows.
func RetryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// MessageOf returns what a stranger may read of err.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Code != Internal {
		return e.Message
	}
	return "internal error"
}
