package webhooks

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const goodURL = "https://app.example.com/cb?token=hush"

var silent = slog.New(slog.DiscardHandler)

// attempts records who was asked when.
type attempts struct {
	mu  sync.Mutex
	ids []string
	at  []time.Time
}

func (a *attempts) note(r *http.Request) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := r.Header.Get("webhook-id")
	a.ids, a.at = append(a.ids, id), append(a.at, time.Now())
	return id
}

func (a *attempts) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string{}, a.ids...)
}

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		var want []string
		for range 10 {
			want = append(want, o.add("p", goodURL))
		}
		var seen attempts
		run(t, Config{Client: client(func(r *http.Request) (int, error) {
			seen.note(r)
			return http.StatusNoContent, nil
		})}, o, silent)
		synctest.Wait()
		for range 10 {
			want = append(want, o.add("p", goodURL))
		}
		synctest.Wait()
		require.Equal(t, want, seen.list())
		delivered, failed, _ := o.get()
		require.Equal(t, want, delivered)
		require.Empty(t, failed)
	})
}

// TestRetry: anything but a 2xx is tried again, with the same id, before the event behind it.
func TestRetry(t *testing.T) {
	for _, status := range []int{
		http.StatusSwitchingProtocols, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest,
		http.StatusGone, http.StatusInternalServerError, http.StatusServiceUnavailable, 999,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutbox()
				first, second := o.add("p", goodURL), o.add("p", goodURL)
				var seen attempts
				run(t, Config{Client: client(func(r *http.Request) (int, error) {
					if seen.note(r) == first && len(seen.list()) <= 4 {
						return status, nil
					}
					return http.StatusOK, nil
				})}, o, silent)
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Equal(t, []string{first, first, first, first, first, second}, seen.list())
				for i, limit := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second} {
					pause := seen.at[i+1].Sub(seen.at[i])
					require.Positive(t, pause)
					require.LessOrEqual(t, pause, limit+time.Millisecond)
				}
				delivered, failed, _ := o.get()
				require.Equal(t, []string{first, second}, delivered)
				require.Len(t, failed, 4)
			})
		})
	}
}

func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		first, second := o.add("p", goodURL), o.add("p", goodURL)
		created := time.Now()
		var seen attempts
		var log bytes.Buffer
		stop := run(t, Config{Client: client(func(r *http.Request) (int, error) {
			seen.note(r)
			return http.StatusInternalServerError, nil
		})}, o, slog.New(slog.NewTextHandler(&log, nil)))
		time.Sleep(DefaultGiveUpAfter - time.Second)
		synctest.Wait()
		_, _, gaveUp := o.get()
		require.Empty(t, gaveUp)
		require.NotContains(t, seen.list(), second)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		_, _, gaveUp = o.get()
		require.Equal(t, []string{first, second}, gaveUp, "the second waited as long")
		require.Equal(t, DefaultGiveUpAfter, seen.at[len(seen.at)-1].Sub(created))
		require.Greater(t, len(seen.at), 24*60/5, "at least every 5 minutes")
		require.Less(t, len(seen.at), 2*24*60/5*2)
		stop()
		require.Contains(t, log.String(), "callback given up")
		require.Contains(t, log.String(), "event="+first)
		require.NotContains(t, log.String(), "hush", "a URL's query may be a secret")
	})
}

// TestDeadEndpoints: some hosts hang, an endpoint of a good host hangs; everybody else is served at once.
func TestDeadEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		for i := range 300 { // far more than the places of a host
			o.add(fmt.Sprint("dead", i), fmt.Sprintf("https://dead%d.example.com/cb/%d", i%5, i))
			o.add(fmt.Sprint("hung", i), "https://app.example.com/hung")
		}
		for i := range 300 {
			o.add(fmt.Sprint("good", i), goodURL)
		}
		began := time.Now()
		run(t, Config{Client: client(func(r *http.Request) (int, error) {
			if r.URL.Host != "app.example.com" || r.URL.Path == "/hung" {
				return hang(r)
			}
			return http.StatusOK, nil
		})}, o, silent)
		synctest.Wait()
		require.Equal(t, began, time.Now())
		delivered, _, _ := o.get()
		require.Len(t, delivered, 300)
		time.Sleep(time.Hour)
		synctest.Wait()
		delivered, failed, _ := o.get()
		require.Len(t, delivered, 300)
		require.Contains(t, failed, "hung0-1: no answer within 10s")
		// Long after the others are known to be dead, a new event still finds a place at once.
		o.add("good0", goodURL)
		synctest.Wait()
		delivered, _, _ = o.get()
		require.Len(t, delivered, 301)
	})
}

// TestBounds: never more requests under way than there are places.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		for i := range 2000 {
			o.add(fmt.Sprint("p", i), fmt.Sprintf("https://host%d.example.com/%d", i%5, i%20))
		}
		var mu sync.Mutex
		running, most, perHost := 0, 0, map[string]int{}
		run(t, Config{Client: client(func(r *http.Request) (int, error) {
			mu.Lock()
			running++
			perHost[r.URL.Host]++
			most = max(most, running)
			if n := perHost[r.URL.Host]; n > 128 {
				t.Errorf("%d requests to %s at once", n, r.URL.Host)
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			running--
			perHost[r.URL.Host]--
			return http.StatusOK, nil
		})}, o, silent)
		time.Sleep(time.Minute)
		synctest.Wait()
		delivered, _, _ := o.get()
		require.Len(t, delivered, 2000)
		require.LessOrEqual(t, most, 512)
		require.Greater(t, most, 400)
	})
}

// TestShutdown: what is under way when the worker ends is neither counted nor lost.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		for i := range 40 {
			o.add(fmt.Sprint("p", i), goodURL)
		}
		stop := run(t, Config{Client: client(hang)}, o, silent)
		synctest.Wait()
		stop()
		delivered, failed, _ := o.get()
		require.Empty(t, delivered)
		require.Empty(t, failed)
		run(t, Config{Client: client(func(*http.Request) (int, error) { return http.StatusOK, nil })}, o, silent)
		synctest.Wait()
		delivered, _, _ = o.get()
		require.Len(t, delivered, 40)
	})
}

// TestShutdownWhileTaken: an answer that comes as the worker ends is kept.
func TestShutdownWhileTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		id := o.add("p", goodURL)
		var stop func()
		stopping := make(chan struct{})
		stop = run(t, Config{Client: client(func(r *http.Request) (int, error) {
			close(stopping)
			<-r.Context().Done()
			return http.StatusOK, nil
		})}, o, silent)
		<-stopping
		stop()
		delivered, _, _ := o.get()
		require.Equal(t, []string{id}, delivered)
	})
}

// TestOutboxDown: while the database is away nothing is lost, and nothing that was taken goes out twice.
func TestOutboxDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		o.failReads = true
		first := o.add("p", goodURL)
		var seen attempts
		run(t, Config{Client: client(func(r *http.Request) (int, error) {
			seen.note(r)
			return http.StatusOK, nil
		})}, o, silent)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Empty(t, seen.list())
		o.set(func() { o.failReads, o.failMarks = false, true })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{first}, seen.list())
		second := o.add("p", goodURL)
		o.set(func() { o.failMarks = false })
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{first, second}, seen.list())
		delivered, _, _ := o.get()
		require.Equal(t, []string{first, second}, delivered)
	})
}

// TestUntold: an event that no wake-up told of is found.
func TestUntold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		run(t, Config{Client: client(func(*http.Request) (int, error) { return http.StatusOK, nil })}, o, silent)
		synctest.Wait()
		o.add("p", goodURL)
		o.wake.Take()
		time.Sleep(rescan + time.Second)
		synctest.Wait()
		delivered, _, _ := o.get()
		require.Len(t, delivered, 1)
	})
}

// TestNotBefore: a restart does not shorten the pause after a failure.
func TestNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		o.add("p", goodURL)
		o.waiting[0].NotBefore = time.Now().Add(time.Minute)
		began := time.Now()
		var seen attempts
		run(t, Config{Client: client(func(r *http.Request) (int, error) {
			seen.note(r)
			return http.StatusOK, nil
		})}, o, silent)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Len(t, seen.list(), 1)
		require.Equal(t, time.Minute, seen.at[0].Sub(began))
	})
}

// TestNoWebURL: what cannot be posted to is given up at once, with nothing sent, and its successor goes.
func TestNoWebURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		bad := []string{"ftp://app.example.com/", "file:///etc/passwd", "://", "app.example.com/cb", "http://", "http://a b/", "javascript:alert(1)"}
		for _, url := range bad {
			o.add("p", url)
		}
		good := o.add("p", goodURL)
		var seen attempts
		run(t, Config{Client: client(func(r *http.Request) (int, error) {
			seen.note(r)
			return http.StatusOK, nil
		})}, o, silent)
		synctest.Wait()
		require.Equal(t, []string{good}, seen.list())
		_, _, gaveUp := o.get()
		require.Len(t, gaveUp, len(bad))
	})
}

func TestBadSecret(t *testing.T) {
	o := newOutbox()
	w := NewWorker(Config{Secrets: map[string]Secret{"acme": "whsec_???"}}, o, o.wake, silent)
	err := w.Run(t.Context())
	require.EqualError(t, err, `account acme: a callback secret must be "whsec_" and a key in base64`)
}
