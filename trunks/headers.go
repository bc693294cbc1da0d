package trunks

import (
	"strings"

	"tandem/errs"
)

// What one call may carry.
const (
	MaxHeaders     = 16  // extra headers of one call, each way
	MaxHeaderValue = 512 // bytes of one
)

// CheckHeaders refuses extra headers that would break out of their line or are too much for a request. The error begins
// with the key.
func CheckHeaders(headers map[string]string) error {
	if len(headers) > MaxHeaders {
		return errs.New(errs.Invalid, "headers: at most %d are allowed", MaxHeaders)
	}
	for _, name := range sortedNames(headers) {
		value := headers[name]
		switch {
		case !IsExtraHeader(name):
			return errs.New(errs.Invalid, "headers.%s: the name must begin with X- and be a token", clip(name))
		case len(value) > MaxHeaderValue:
			return errs.New(errs.Invalid, "headers.%s: has %d bytes, at most %d are allowed", name, len(value), MaxHeaderValue)
		case strings.ContainsFunc(value, unprintable):
			return errs.New(errs.Invalid, "headers.%s: must not contain control characters", name)
		}
	}
	return nil
}
