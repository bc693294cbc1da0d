package dialogs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tandem/errs"
	"tandem/sessions"
)

const (
	maxSound         = 1024 // bytes of a sound's name
	maxGather        = 64   // keys
	maxGatherTimeout = 2 * time.Minute
	gatherPatience   = 10 * time.Second
	maxListed        = 1000 // subscriptions, and aliases of each
	tonePrefix       = "tone:"
)

// reasons are the words by which an application may decline a call, with what the caller is told.
func reasons() map[string]int {
	return map[string]int{
		string(FarEndBusy): 486, "BUSY": 486,
		string(FarEndDeclined): 603, "DECLINED": 603,
		string(FarEndNotFound): 404, "NOT FOUND": 404,
	}
}

// ParseInstruction reads an instruction from JSON. An error is errs.Invalid and names the field. Fields that are unknown
// are ignored, null is absent.
func ParseInstruction(raw []byte) (Instruction, error) {
	if !utf8.Valid(raw) {
		return Instruction{}, errs.New(errs.Invalid, "body: must be JSON, but it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var body map[string]any
	if err := dec.Decode(&body); err != nil {
		return Instruction{}, errs.New(errs.Invalid, "body: must be a JSON object") // the cause may quote what is secret
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Instruction{}, errs.New(errs.Invalid, "body: must be one JSON object; something follows it")
	}
	return ReadInstruction(body)
}

// ReadInstruction is ParseInstruction for an object that was decoded already, with its numbers as json.Number.
func ReadInstruction(body map[string]any) (Instruction, error) {
	var first error
	f := fields{of: body, err: &first}
	i := Instruction{
		State:   f.state(),
		Session: f.text("sessionId", 256),
		SIPCode: f.refusal(),
		Play:    f.play(),
		Gather:  f.gather(),
	}
	if f.has("subscriptions") {
		if i.Session == "" {
			f.fail("subscriptions", "goes with sessionId")
		}
		i.Subscriptions = f.object("subscriptions").subscriptions()
	}
	return i, first
}

// fields are those of an object that is being read. The first complaint is kept; after it what is read means nothing.
type fields struct {
	path string
	of   map[string]any
	err  *error
}

func (f fields) fail(name, format string, args ...any) {
	if *f.err == nil {
		*f.err = errs.New(errs.Invalid, "%s%s: %s", f.path, name, fmt.Sprintf(format, args...))
	}
}

func (f fields) has(name string) bool { return f.of[name] != nil }

func (f fields) text(name string, most int) string {
	if !f.has(name) {
		return ""
	}
	s, ok := f.of[name].(string)
	switch {
	case !ok:
		f.fail(name, "must be a string, not %s", kind(f.of[name]))
	case len(s) > most:
		f.fail(name, "must have at most %d bytes", most)
	case strings.ContainsFunc(s, unicode.IsControl):
		f.fail(name, "must not contain control characters")
	}
	return s
}

func (f fields) flag(name string, otherwise bool) bool {
	if !f.has(name) {
		return otherwise
	}
	yes, ok := f.of[name].(bool)
	if !ok {
		f.fail(name, "must be true or false, not %s", kind(f.of[name]))
	}
	return yes
}

// number reads a number from low to high; words say what of.
func (f fields) number(name string, low, high, otherwise float64, words string) float64 {
	if !f.has(name) {
		return otherwise
	}
	n, _ := f.of[name].(json.Number)
	v, err := n.Float64()
	if err != nil || math.IsNaN(v) || v < low || v > high {
		f.fail(name, "must be a number%s from %g to %g", words, low, high)
		return otherwise
	}
	return v
}

func (f fields) whole(name string, low, high, otherwise int) int {
	v := f.number(name, float64(low), float64(high), float64(otherwise), "")
	if v != math.Trunc(v) {
		f.fail(name, "must be a whole number")
	}
	return int(v)
}

func (f fields) object(name string) fields {
	inner := fields{path: f.path + name + ".", err: f.err}
	if !f.has(name) {
		return inner
	}
	var ok bool
	if inner.of, ok = f.of[name].(map[string]any); !ok {
		f.fail(name, "must be an object, not %s", kind(f.of[name]))
	}
	return inner
}

func (f fields) list(name string) []any {
	if !f.has(name) {
		return nil
	}
	items, ok := f.of[name].([]any)
	switch {
	case !ok:
		f.fail(name, "must be an array, not %s", kind(f.of[name]))
	case len(items) > maxListed:
		f.fail(name, "must have at most %d entries", maxListed)
		return nil
	}
	return items
}

// kind names a JSON value's type.
func kind(v any) string {
	switch v.(type) {
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

// state takes the state from where either vocabulary has it.
func (f fields) state() State {
	if inner := f.object("dialogStateData"); !f.has("state") && inner.has("state") {
		f = inner
	}
	word := f.text("state", 64)
	if word == "" && !f.has("state") {
		return ""
	}
	if !slices.Contains(States(), State(word)) {
		f.fail("state", "%q is not one of NEW, CALLING, RINGING, ANSWERED, TERMINATED", word)
	}
	return State(word)
}

// refusal is the status of a refusal: as it is, or as a word. One that asks for credentials would be a lie.
func (f fields) refusal() int {
	code := f.whole("sipCode", 400, 699, 0)
	if code == 401 || code == 407 {
		f.fail("sipCode", "must not be 401 or 407, which ask the caller for credentials")
	}
	if word := f.text("reason", 64); word != "" {
		named, ok := reasons()[word]
		if !ok {
			f.fail("reason", "%q is not one of FAR END BUSY, FAR END DECLINED, FAR END NOT FOUND", word)
		}
		if code == 0 {
			code = named
		}
	}
	return code
}

func (f fields) play() *Play {
	if !f.has("play") {
		return nil
	}
	p := &Play{Sound: f.text("play", maxSound)}
	p.Loop = f.flag("loop", strings.HasPrefix(p.Sound, tonePrefix))
	if f.has("gather") {
		f.fail("play", "does not go with gather, which has a prompt")
	}
	return p
}

func (f fields) gather() *Gather {
	if !f.has("gather") {
		return nil
	}
	f = f.object("gather")
	g := &Gather{
		Digits:     f.whole("digits", 1, maxGather, maxGather),
		Prompt:     f.text("prompt", maxSound),
		Terminator: "#",
		Unanswered: !f.flag("answer", true),
	}
	seconds := f.number("timeout", 0.1, maxGatherTimeout.Seconds(), gatherPatience.Seconds(), " of seconds")
	g.Timeout = time.Duration(seconds * float64(time.Second))
	if f.has("terminator") {
		g.Terminator = f.text("terminator", 1)
		if g.Terminator != "" && !strings.Contains("0123456789*#ABCD", g.Terminator) {
			f.fail("terminator", "must be one key (0-9, *, #, A-D), or empty for none")
		}
	}
	return g
}

func (f fields) subscriptions() sessions.Subscriptions {
	s := sessions.Subscriptions{Session: f.text("sessionId", 256)}
	for n, item := range f.list("participants") {
		one := fields{path: fmt.Sprintf("%sparticipants[%d].", f.path, n), err: f.err}
		var ok bool
		if one.of, ok = item.(map[string]any); !ok {
			f.fail("participants", "must hold objects")
			break
		}
		sub := sessions.Subscription{Participant: one.text("participantId", 256)}
		if sub.Participant == "" {
			one.fail("participantId", "is missing")
		}
		for _, alias := range one.list("streamAliases") {
			text, ok := alias.(string)
			if !ok || strings.ContainsRune(text, 0) {
				one.fail("streamAliases", "must hold strings")
			}
			sub.StreamAliases = append(sub.StreamAliases, text)
		}
		s.Participants = append(s.Participants, sub)
	}
	return s
}

// shownSound is the part of a sound's name that may be told: what follows an address may be a secret.
func shownSound(name string) string {
	name, _, _ = strings.Cut(name, "?")
	if scheme, rest, ok := strings.Cut(name, "://"); ok {
		if host, path, ok := strings.Cut(rest, "/"); ok {
			return scheme + "://" + host[strings.LastIndexByte(host, '@')+1:] + "/" + path
		}
	}
	return name
}
