package webhooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

var errDown = errors.New("the database is down")

// memoryOutbox is an Outbox in memory that can fail.
type memoryOutbox struct {
	mu        sync.Mutex
	wake      *Wakeups
	waiting   []Delivery
	delivered []string
	failed    []string // "id: reason"
	gaveUp    []string
	sequences map[string]int64

	failReads, failMarks bool
}

func newOutbox() *memoryOutbox {
	return &memoryOutbox{wake: NewWakeups(), sequences: map[string]int64{}}
}

// add writes an event as the store would.
func (o *memoryOutbox) add(participant, url string) string {
	return o.addNamed(OnConnect, participant, url)
}

func (o *memoryOutbox) addNamed(name Name, participant, url string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sequences[participant]++
	n := o.sequences[participant]
	id := fmt.Sprintf("%s-%d", participant, n)
	o.waiting = append(o.waiting, Delivery{
		ID: id, Name: name, Account: "acme", Participant: participant, Sequence: n, URL: url, Body: []byte(`{"n":"` + id + `"}`), Created: time.Now(),
	})
	o.wake.Add(participant)
	return id
}

func (o *memoryOutbox) Waiting(context.Context) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failReads {
		return nil, errDown
	}
	var list []string
	for _, d := range o.waiting {
		list = append(list, d.Participant)
	}
	return list, nil
}

func (o *memoryOutbox) Next(_ context.Context, participant string) (Delivery, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failReads {
		return Delivery{}, false, errDown
	}
	for _, d := range o.waiting {
		if d.Participant == participant {
			return d, true, nil
		}
	}
	return Delivery{}, false, nil
}

func (o *memoryOutbox) Delivered(_ context.Context, id string, _ time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failMarks {
		return errDown
	}
	o.remove(id)
	o.delivered = append(o.delivered, id)
	return nil
}

func (o *memoryOutbox) Failed(_ context.Context, id, reason string, next time.Time, gaveUp bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failMarks {
		return errDown
	}
	o.failed = append(o.failed, id+": "+reason)
	if gaveUp {
		o.remove(id)
		o.gaveUp = append(o.gaveUp, id)
		return nil
	}
	for i := range o.waiting {
		if o.waiting[i].ID == id {
			o.waiting[i].Attempts++
			o.waiting[i].NotBefore = next
		}
	}
	return nil
}

// remove is called with the lock held.
func (o *memoryOutbox) remove(id string) {
	for i, d := range o.waiting {
		if d.ID == id {
			o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
			return
		}
	}
}

func (o *memoryOutbox) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

func (o *memoryOutbox) get() (delivered, failed, gaveUp []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string{}, o.delivered...), append([]string{}, o.failed...), append([]string{}, o.gaveUp...)
}

// run starts a worker; stop ends it and waits for it.
func run(t *testing.T, cfg Config, o *memoryOutbox, log *slog.Logger) (stop func()) {
	t.Helper()
	w := NewWorker(cfg, o, o.wake, log)
	return runWorker(t, w)
}

func runWorker(t *testing.T, w *Worker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// endpointFunc answers requests without a network, so that time can be fake.
type endpointFunc func(*http.Request) (int, error)

func (f endpointFunc) RoundTrip(r *http.Request) (*http.Response, error) {
	status, err := f(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Location": {"https://elsewhere.example.com/"}},
		Body: io.NopCloser(strings.NewReader("an answer")), Request: r,
	}, nil
}

// client is a Config.Client that f answers.
func client(f endpointFunc) *http.Client { return &http.Client{Transport: f} }

// hang answers nothing until the request is given up.
func hang(r *http.Request) (int, error) {
	<-r.Context().Done()
	return 0, r.Context().Err()
}
