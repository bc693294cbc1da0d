package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 256 << 10

// maxQuoted bounds how much of a wrong value a refusal repeats, in bytes.
const maxQuoted = 64

// decode reads the request's body into its fields through read. A body that is missing, empty or null is an empty
// object. The error is errs.Invalid and names the first field that is wrong by its path.
func decode(c *gin.Context, read func(object)) error {
	raw, err := readBody(c)
	if err != nil {
		return err
	}
	return decodeBytes(raw, read)
}

// readBody reads all of the request's body within its limits of size and time.
func readBody(c *gin.Context) ([]byte, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, invalid("body", "must be at most %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, invalid("body", "broke off while it was read")
	}
	setReadDeadline(c, time.Time{})
	return raw, nil
}

func decodeBytes(raw []byte, read func(object)) error {
	body := map[string]any{}
	if len(bytes.TrimSpace(raw)) > 0 {
		v, err := parse(raw)
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case nil:
		case map[string]any:
			body = v
		default:
			return invalid("body", "must be a JSON object, not %s", kind(v))
		}
	}
	var first error
	read(object{fields: body, err: &first})
	return first
}

// parse reads exactly one JSON value.
func parse(raw []byte) (any, error) {
	if !utf8.Valid(raw) {
		return nil, invalid("body", "must be JSON, but it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, invalid("body", "must be JSON: %s at byte %d", syntax, syntax.Offset)
		}
		return nil, invalid("body", "must be JSON, but it ends too early")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("body", "must be one JSON object; something follows it")
	}
	return v, nil
}

// object is a JSON object that is being read. Its methods take a field that is null for one that is absent, and keep
// the first complaint for the whole body; after it what they return means nothing.
type object struct {
	path   string // where it is: "" is the body itself
	fields map[string]any
	err    *error
}

func (o object) at(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

func (o object) fail(path, format string, args ...any) {
	if *o.err == nil {
		*o.err = invalid(path, format, args...)
	}
}

func (o object) has(name string) bool { return o.fields[name] != nil }

// require complains unless one of the names is there; the first one is the one to tell.
func (o object) require(expected string, names ...string) {
	if !slices.ContainsFunc(names, o.has) {
		o.fail(o.at(names[0]), "is missing; must be %s", expected)
	}
}

func (o object) text(name string) string {
	if !o.has(name) {
		return ""
	}
	return o.asText(o.at(name), o.fields[name])
}

func (o object) asText(path string, v any) string {
	s, ok := v.(string)
	if !ok {
		o.fail(path, "must be a string, not %s", kind(v))
	}
	if strings.ContainsRune(s, 0) {
		o.fail(path, "must not contain the character NUL")
	}
	return s
}

func (o object) list(name string) []any {
	if !o.has(name) {
		return nil
	}
	items, ok := o.fields[name].([]any)
	if !ok {
		o.fail(o.at(name), "must be an array, not %s", kind(o.fields[name]))
	}
	return items
}

func (o object) texts(name string) []string {
	var all []string
	for i, item := range o.list(name) {
		all = append(all, o.asText(fmt.Sprintf("%s[%d]", o.at(name), i), item))
	}
	return all
}

// object returns the object in a field, or an empty one.
func (o object) object(name string) object {
	inner := object{path: o.at(name), err: o.err}
	if o.has(name) {
		inner.fields = o.asObject(inner.path, o.fields[name])
	}
	return inner
}

func (o object) objects(name string) []object {
	var all []object
	for i, item := range o.list(name) {
		path := fmt.Sprintf("%s[%d]", o.at(name), i)
		all = append(all, object{path: path, fields: o.asObject(path, item), err: o.err})
	}
	return all
}

func (o object) asObject(path string, v any) map[string]any {
	fields, ok := v.(map[string]any)
	if !ok {
		o.fail(path, "must be an object, not %s", kind(v))
	}
	return fields
}

// allTexts returns an object whose values are all strings; nil when it is empty.
func (o object) allTexts() map[string]string {
	var all map[string]string
	for name := range o.fields {
		if o.has(name) {
			if all == nil {
				all = make(map[string]string, len(o.fields))
			}
			all[name] = o.text(name)
		}
	}
	return all
}

// boolean returns otherwise for a field that is absent.
func (o object) boolean(name string, otherwise bool) bool {
	if !o.has(name) {
		return otherwise
	}
	b, ok := o.fields[name].(bool)
	if !ok {
		o.fail(o.at(name), "must be true or false, not %s", kind(o.fields[name]))
	}
	return b
}

// integer returns otherwise for a field that is absent.
func (o object) integer(name string, otherwise int) int {
	if !o.has(name) {
		return otherwise
	}
	n, ok := o.fields[name].(json.Number)
	if !ok {
		o.fail(o.at(name), "must be a number, not %s", kind(o.fields[name]))
		return 0
	}
	i, err := strconv.Atoi(n.String())
	if err != nil {
		o.fail(o.at(name), "must be a whole number")
	}
	return i
}

// seconds reads a duration: a number of seconds above 0, at most limit.
func (o object) seconds(name string, limit time.Duration) time.Duration {
	if !o.has(name) {
		return 0
	}
	n, ok := o.fields[name].(json.Number)
	if !ok {
		o.fail(o.at(name), "must be a number of seconds, not %s", kind(o.fields[name]))
		return 0
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f <= 0 || f > limit.Seconds() {
		o.fail(o.at(name), "must be more than 0 and at most %.0f seconds", limit.Seconds())
		return 0
	}
	return max(time.Duration(f*float64(time.Second)), time.Millisecond)
}

// oneOf checks a value against the words of an enumeration.
func oneOf[T ~string](o object, path, value string, words []T) T {
	if word := T(value); slices.Contains(words, word) {
		return word
	}
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	o.fail(path, "%q is not one of %s", clip(value, maxQuoted), strings.Join(names, ", "))
	return ""
}

// kind names a JSON value's type as a refusal says it.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	}
	return "an object"
}
