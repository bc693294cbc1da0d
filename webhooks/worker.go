package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// What Config's zero value means.
const (
	DefaultTimeout     = 10 * time.Second
	DefaultGiveUpAfter = 24 * time.Hour
)

const (
	firstRetry = 2 * time.Second // the first retry comes after up to this, on average half of it
	lastRetry  = 5 * time.Minute // no retry comes later after the attempt before
	// outboxPause is the first wait after the outbox failed; it doubles up to outboxPauseMax.
	outboxPause    = time.Second
	outboxPauseMax = 30 * time.Second
	// rescan is how often the outbox is asked for what no wake-up told: a commit whose answer was lost, another process.
	rescan = time.Minute
	// markTimeout bounds the write of a result; it may outlive the worker by that, so that no event goes out twice.
	markTimeout = 5 * time.Second
	maxReads    = 8
)

// Config is how the worker delivers. The zero value is ready to use.
type Config struct {
	// Secrets sign the callbacks, by account. An account without one gets them unsigned.
	Secrets map[string]Secret
	// Timeout is for one attempt, from the connection to the end of the answer's body; 0: DefaultTimeout.
	Timeout time.Duration
	// GiveUpAfter is how long after its creation an event is tried; 0: DefaultGiveUpAfter. One that waited longer while
	// the program was down is tried once.
	GiveUpAfter time.Duration
	// Client sends the requests; nil: one of the worker's own. It never follows redirects.
	Client *http.Client
	// Answers is told what the application answers to the events that it asks for; nil: nobody is.
	Answers Answers
}

// Worker posts the events of an Outbox to their URLs: in order per participant, at least once, participants in
// parallel.
type Worker struct {
	cfg    Config
	outbox Outbox
	wake   *Wakeups
	log    *slog.Logger
	client *http.Client
	retry  func(tries int) time.Duration // retryIn; tests with real sockets have less patience

	// Owned by Run.
	schedule *schedule
	results  chan func() // what the requests and reads bring; they run in Run
	jobs     sync.WaitGroup
	reading  int
	scanning bool
}

// NewWorker makes a worker; Run starts it.
func NewWorker(cfg Config, outbox Outbox, wake *Wakeups, log *slog.Logger) *Worker {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.GiveUpAfter <= 0 {
		cfg.GiveUpAfter = DefaultGiveUpAfter
	}
	return &Worker{
		cfg:      cfg,
		outbox:   outbox,
		wake:     wake,
		log:      log,
		client:   newClient(cfg.Client),
		retry:    retryIn,
		schedule: newSchedule(limits{endpoint: span{4, 64}, host: span{16, 128}, total: 512}),
		results:  make(chan func()),
	}
}

// Run delivers until ctx ends; first what already waits in the outbox. Requests under way are cancelled at the end and
// count as not made. It returns an error only for a secret that cannot sign. It is called once.
func (w *Worker) Run(ctx context.Context) error {
	for account, secret := range w.cfg.Secrets {
		if secret == "" {
			continue
		}
		if err := secret.Validate(); err != nil {
			return fmt.Errorf("account %s: %w", account, err)
		}
	}
	defer w.client.CloseIdleConnections()
	defer w.jobs.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	ticker := time.NewTicker(rescan)
	defer ticker.Stop()
	w.scan(ctx)
	for {
		if rest, ok := w.schedule.wakeUp(time.Now()); ok {
			timer.Reset(rest)
		}
		w.start(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake.C():
			for _, participant := range w.wake.Take() {
				w.schedule.poke(participant)
			}
		case result := <-w.results:
			result()
		case <-timer.C:
		case <-ticker.C:
			w.scan(ctx)
		}
	}
}

// start gives work to everybody who may have some.
func (w *Worker) start(ctx context.Context) {
	for w.reading < maxReads {
		l := w.schedule.nextRead()
		if l == nil {
			break
		}
		w.reading++
		w.jobs.Go(func() {
			d, ok, err := w.outbox.Next(ctx, l.participant)
			w.bring(ctx, func() {
				w.reading--
				w.read(l, d, ok, err)
			})
		})
	}
	for l := w.schedule.nextPost(); l != nil; l = w.schedule.nextPost() {
		d, taken := l.next, l.taken == l.next.ID
		w.jobs.Go(func() {
			o := w.attempt(ctx, d, taken)
			w.bring(ctx, func() { w.posted(l, o) })
		})
	}
}

// bring hands a result to Run, unless that ends.
func (w *Worker) bring(ctx context.Context, result func()) {
	select {
	case w.results <- result:
	case <-ctx.Done():
	}
}

// scan asks the outbox who has waiting events.
func (w *Worker) scan(ctx context.Context) {
	if w.scanning {
		return
	}
	w.scanning = true
	w.jobs.Go(func() {
		pause := outboxPause
		for {
			waiting, err := w.outbox.Waiting(ctx)
			if err == nil {
				w.bring(ctx, func() {
					w.scanning = false
					for _, participant := range waiting {
						w.schedule.poke(participant)
					}
				})
				return
			}
			if ctx.Err() != nil {
				return
			}
			w.log.Error("cannot list waiting callbacks", "retry", pause, "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, outboxPauseMax)
		}
	})
}

// read takes the participant's next event to its endpoint.
func (w *Worker) read(l *lane, d Delivery, ok bool, err error) {
	if err != nil {
		w.trouble(l, err)
		return
	}
	if !ok {
		l.troubles = 0
		w.schedule.empty(l)
		return
	}
	if d.NotBefore.After(time.Now()) {
		w.schedule.sleep(l, d.NotBefore)
		return
	}
	hostName, key := address(d.URL)
	w.schedule.enqueue(l, d, hostName, key)
}

// posted decides how the lane goes on after an attempt.
func (w *Worker) posted(l *lane, o outcome) {
	id := l.next.ID
	w.schedule.posted(l, o.answered)
	if o.err != nil {
		if o.taken {
			l.taken = id
		}
		w.trouble(l, o.err)
		return
	}
	l.troubles = 0
	if o.next.IsZero() {
		w.schedule.read(l)
	} else {
		w.schedule.sleep(l, o.next)
	}
}

// trouble lets the lane rest because the outbox failed.
func (w *Worker) trouble(l *lane, err error) {
	pause := backoff(outboxPause, outboxPauseMax, l.troubles)
	l.troubles++
	if !errors.Is(err, context.Canceled) {
		w.log.Error("the outbox of callbacks fails", "participant", l.participant, "retry", pause, "error", err)
	}
	w.schedule.sleep(l, time.Now().Add(pause))
}

// backoff doubles first with every try, up to limit.
func backoff(first, limit time.Duration, tries int) time.Duration {
	for range tries {
		if first >= limit/2 {
			return limit
		}
		first *= 2
	}
	return min(first, limit)
}

// retryIn is the pause after an attempt of which there were tries before: exponential, with full jitter.
func retryIn(tries int) time.Duration {
	return rand.N(backoff(firstRetry, lastRetry, tries)) + time.Millisecond
}

// address returns what bounds the requests to a URL: its host, and within that the URL without query.
func address(raw string) (hostName, key string) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", ""
	}
	hostName = strings.ToLower(u.Host)
	return hostName, u.Scheme + "://" + hostName + u.Path
}
