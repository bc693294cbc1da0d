package webhooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	maxAnswer   = 64 << 10 // bytes of an answer's body that are read, and of its headers
	answerTime  = 5 * time.Second
	maxReason   = 200 // bytes of a failure's words that are kept
	dialTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	idlePerHost = 64
	contentType = "application/json"
	userAgent   = "Tandem"
)

// outcome is what an attempt came to.
type outcome struct {
	answered bool      // by whatever status
	taken    bool      // by a 2xx
	next     time.Time // when it is tried again; zero: it is done, the next event may go
	err      error     // the result could not be kept in the outbox, or we are ending
}

// newClient copies the given client, or makes one, so that it follows no redirect and keeps no cookie.
func newClient(given *http.Client) *http.Client {
	client := &http.Client{}
	if given != nil {
		*client = *given
	} else {
		client.Transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    idlePerHost,
			IdleConnTimeout:        idleTimeout,
			TLSHandshakeTimeout:    dialTimeout,
			MaxResponseHeaderBytes: maxAnswer,
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil
	return client
}

// attempt posts an event once and keeps the result in the outbox. One that was taken already, but could not be marked,
// is only marked.
func (w *Worker) attempt(ctx context.Context, d Delivery, taken bool) outcome {
	if taken {
		return outcome{answered: true, taken: true, err: w.outbox.Delivered(ctx, d.ID, time.Now())}
	}
	status, body, err := w.post(ctx, d)
	if err != nil && ctx.Err() != nil {
		return outcome{err: context.Canceled} // we are ending: the attempt counts as not made
	}
	answered := status != 0
	// What the application took must be marked even while we are ending.
	markCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
	defer cancel()
	if err == nil && status/100 == 2 {
		w.tell(ctx, d, body) // before the next event may go
		return outcome{answered: true, taken: true, err: w.outbox.Delivered(markCtx, d.ID, time.Now())}
	}
	var reason string
	if err != nil {
		reason = err.Error()
		reason = reason[:min(len(reason), maxReason)] // it may quote what the endpoint sent
	} else {
		reason = fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	now, deadline := time.Now(), d.Created.Add(w.cfg.GiveUpAfter)
	log := w.log.With("event", d.ID, "participant", d.Participant, "account", d.Account, "url", shown(d.URL),
		"attempt", d.Attempts+1, "reason", reason)
	if !now.Before(deadline) || errors.Is(err, errNeverPossible) {
		log.Error("callback given up")
		return outcome{answered: answered, err: w.outbox.Failed(markCtx, d.ID, reason, time.Time{}, true)}
	}
	next := now.Add(w.retry(d.Attempts))
	if next.After(deadline) {
		next = deadline // the last attempt
	}
	level := slog.LevelDebug
	if d.Attempts == 0 {
		level = slog.LevelWarn
	}
	log.Log(ctx, level, "callback failed", "retry", next)
	return outcome{answered: answered, next: next, err: w.outbox.Failed(markCtx, d.ID, reason, next, false)}
}

// errNeverPossible is a URL to which nothing can be posted, now or later.
var errNeverPossible = errors.New("the callback URL is neither http nor https")

// post sends the event. It returns the answer's status and the beginning of its body, or why there was none; the error
// names no part of the URL, which may hold a secret.
func (w *Worker) post(ctx context.Context, d Delivery) (status int, body []byte, err error) {
	u, err := url.Parse(d.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return 0, nil, errNeverPossible
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Body))
	if err != nil {
		return 0, nil, errNeverPossible
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", userAgent)
	if err := sign(request.Header, w.cfg.Secrets[d.Account], d.ID, time.Now(), d.Body); err != nil {
		return 0, nil, err
	}
	response, err := w.client.Do(request)
	if err != nil {
		if failure, ok := errors.AsType[*url.Error](err); ok {
			err = failure.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", w.cfg.Timeout)
		}
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if !w.wanted(d.Name) || response.StatusCode/100 != 2 {
		// The status decides. The body is read only so that the connection can be used again, and may be cut off.
		_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
		return response.StatusCode, nil, nil
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if !answersJSON(response.Header, body) {
		body = nil
	}
	return response.StatusCode, body, nil
}

// shown is the part of a URL that may be logged.
func shown(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.Path
}
