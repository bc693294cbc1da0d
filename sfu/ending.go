package sfu

import (
	"errors"

	"github.com/coder/websocket"

	"tandem/errs"
)

// Why a device ends.
var (
	errLeft     = errors.New("the device left")
	errRestart  = errors.New("the gateway stops")
	errGrace    = errors.New("the device did not come back in time")
	errSlow     = errors.New("the device's inbox is full")
	errNoAnswer = errs.New(errs.Unavailable, "the offer was not answered: join again")
	// errBeganAnew is what a client hears whose connections here, or there, are gone: it cannot rebuild them.
	errBeganAnew = errs.New(errs.Conflict, "the connection is not known here any more: join again")
)

// ending is why and how a device ends; it is the cause of its context.
type ending struct {
	cause error
	code  websocket.StatusCode
	lost  bool // onDisconnect instead of onLeave
	tell  bool // the device is told the cause
}

// Error returns the cause's text.
func (e *ending) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *ending) Unwrap() error { return e.cause }
