package webhooks

import (
	"encoding/base32"

	"github.com/google/uuid"
)

var idEncoding = base32.HexEncoding.WithPadding(base32.NoPadding) // keeps the order of what it encodes

// NewID names an event: before it is saved, so that it is saved once however often that is tried. A later event has a
// greater name, so that the index of the database grows at its end.
func NewID() string {
	id := uuid.Must(uuid.NewV7())
	return "msg_" + idEncoding.EncodeToString(id[:])
}
