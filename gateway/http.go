package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"tandem/web"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// requestPatience is how long requests that run may take to finish when the gateway stops.
	requestPatience = 3 * time.Second
)

// routes is everything that the HTTP listener serves.
func (a *App) routes(rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v3", a.devices)
	mux.Handle("/v3/", a.devices)
	mux.Handle("/metrics", a.metrics())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		phase := a.phase.Load()
		if phase == ready {
			if err := a.health.check(r.Context()); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte("the database cannot be reached\n"))
				return
			}
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte([...]string{starting: "starting\n", ready: "ready\n", stopping: "stopping\n"}[phase]))
	})
	mux.Handle("/admin/", rest)
	if a.demoRoom != nil {
		mux.Handle("POST /demo/join", a.demoRoom)
		mux.Handle("/", web.Handler())
	} else {
		mux.Handle("/", rest) // its 404 has the error body that clients know
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not through the mux: it redirects a path with an empty segment, and a missing id has to be an error.
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			rest.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// serveHTTP serves until ctx ends and lets running requests finish.
func (a *App) serveHTTP(ctx context.Context) error {
	server := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(a.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestPatience)
	defer cancel()
	err := server.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
