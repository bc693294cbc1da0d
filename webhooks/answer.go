package webhooks

import (
	"bytes"
	"context"
	"mime"
	"net/http"
	"strings"
)

// Answers takes what applications answer to events, in the bodies of their HTTP responses.
type Answers interface {
	// Wants says whether the answer to events of that name matters.
	Wants(name Name) bool
	// Answered is called once for each answer: a 2xx with JSON in its body. It may wait a little, until ctx ends: the
	// participant's next event waits too.
	Answered(ctx context.Context, a Answer)
}

// Answer is what an application answered to an event.
type Answer struct {
	Event       string // its webhook-id
	Name        Name
	Account     string
	Participant string
	Body        []byte // what should be JSON, at most 64 KiB
	Cut         bool   // the rest is missing
}

func (w *Worker) wanted(name Name) bool { return w.cfg.Answers != nil && w.cfg.Answers.Wants(name) }

// tell hands an answer on. One without a body says nothing.
func (w *Worker) tell(ctx context.Context, d Delivery, body []byte) {
	if len(body) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	w.cfg.Answers.Answered(ctx, Answer{
		Event: d.ID, Name: d.Name, Account: d.Account, Participant: d.Participant,
		Body: body[:min(len(body), maxAnswer)], Cut: len(body) > maxAnswer,
	})
}

// answersJSON says whether a body is meant as JSON: by its type, or, as many frameworks name none or text/html, by its
// beginning. "OK" and pages are no answers.
func answersJSON(h http.Header, body []byte) bool {
	body = bytes.TrimSpace(body)
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	json := kind == contentType || strings.HasSuffix(kind, "+json")
	return len(body) > 0 && (json || body[0] == '{')
}
