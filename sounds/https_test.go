package sounds_test

import (
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/sounds"
	"tandem/test/audio"
)

// TestFetchOverTLS: a sound comes over https from a server whose certificate is trusted and is for its name. Nothing is
// asked of another one, nor of one without TLS to which the first redirects.
func TestFetchOverTLS(t *testing.T) {
	plain := serve(t, wav(8000, 1, make([]int16, 800)))
	var hits atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/sounds/x.wav", func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		_, _ = w.Write(wav(8000, 1, audio.Tone(700, -12, 8000, time.Second)))
	})
	mux.HandleFunc("/sounds/downgrade", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/sounds/x.wav", http.StatusFound)
	})
	mux.HandleFunc("/sounds/same", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/sounds/x.wav", http.StatusFound)
	})
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the other side breaks off
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	named := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	cfg := sounds.Config{Allow: []string{s.URL + "/sounds", named + "/sounds"}, AllowPrivate: true}

	trusting := open(t, cfg)
	trusting.Trust(roots)
	got, err := trusting.Sound(t.Context(), s.URL+"/sounds/x.wav")
	require.NoError(t, err)
	require.InDelta(t, 700, audio.Frequency(got, 8000), 0.1)
	require.EqualValues(t, 1, hits.Load())

	refused(t, open(t, cfg), s.URL+"/sounds/x.wav", errs.Unavailable, "certificate signed by unknown authority")
	refused(t, trusting, named+"/sounds/x.wav", errs.Unavailable, "certificate is valid for")
	refused(t, trusting, s.URL+"/sounds/downgrade", errs.Forbidden, "redirects to "+plain.URL)
	refused(t, trusting, s.URL+"/sounds/same", errs.Forbidden, "redirects to http://")
	require.EqualValues(t, 1, hits.Load(), "who is not trusted is asked nothing")
	require.Zero(t, plain.hits.Load())
}
