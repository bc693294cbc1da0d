package webhooks

import (
	"encoding/base32"

	"github.com/google/uuid"
)

// idLength is that of 16 bytes in base32, without the padding.
const idLength = 26

// NewID names an event: before it is saved, so that it is saved once however often that is tried. A later event has a
// greater name (base32hex keeps the order of what it encodes), so that the index of the database grows at its end.
func NewID() string {
	id := uuid.Must(uuid.NewV7())
	return "msg_" + base32.HexEncoding.EncodeToString(id[:])[:idLength]
}
