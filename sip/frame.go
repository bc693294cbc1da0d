package sip

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// maxMessage is how many bytes a message on a stream may have, body and all: the library's own bound.
const maxMessage = 65535

var (
	errTooLong  = errors.New("the message is longer than 65535 bytes")
	errNoLength = errors.New("the message has no usable Content-Length")
)

// piece is what a stream carries: messages, and between them the keep-alive of RFC 5626 §3.5.1.
type piece int

const (
	pieceNone    piece = iota // more bytes are needed
	pieceBlank                // a CRLF: half a ping, or a pong
	pieceMessage              // a whole message
)

// frame returns the length of the first piece of buf (RFC 3261 §18.3), 0 when it has not come whole yet. An error means
// that there is no boundary behind which reading could go on; n is the length of the header then, 0 if unknown.
func frame(buf []byte) (n int, what piece, err error) {
	switch {
	case bytes.HasPrefix(buf, []byte("\r\n")):
		return 2, pieceBlank, nil
	case len(buf) == 0 || (len(buf) == 1 && buf[0] == '\r'):
		return 0, pieceNone, nil
	}
	end := bytes.Index(buf, []byte("\r\n\r\n"))
	if end < 0 {
		if len(buf) > maxMessage {
			return 0, pieceNone, errTooLong
		}
		return 0, pieceNone, nil
	}
	header := end + 4
	length, found, err := contentLength(string(buf[:end+2]))
	if err == nil && !found {
		err = errNoLength
	}
	if err == nil && header+length > maxMessage {
		err = errTooLong
	}
	if err != nil {
		return header, pieceNone, err
	}
	if len(buf) < header+length {
		return 0, pieceNone, nil
	}
	return header + length, pieceMessage, nil
}

// contentLength reads the length of the body out of a header. Two that differ are an error: whoever frames by the
// other one sees other messages than we do.
func contentLength(header string) (length int, found bool, err error) {
	lines := strings.Split(header, "\r\n")
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || (!strings.EqualFold(name, "Content-Length") && !strings.EqualFold(name, "l")) {
			continue
		}
		for _, more := range lines[i+1:] { // a folded line (RFC 3261 §7.3.1)
			if !strings.HasPrefix(more, " ") && !strings.HasPrefix(more, "\t") {
				break
			}
			value += more
		}
		n, err := strconv.ParseUint(strings.Trim(value, " \t"), 10, 31)
		if err != nil || (found && int(n) != length) {
			return 0, false, errNoLength
		}
		length, found = int(n), true
	}
	return length, found, nil
}
