package load

import (
	"net/http"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// fakeGateway makes this test binary a process with a /readyz, for the tests of what starts and watches a gateway.
const fakeGateway = "TANDEM_LOAD_FAKE_GATEWAY"

// allSounds are made once: under the race detector that takes seconds.
var allSounds = sync.OnceValues(newSounds)

func TestMain(m *testing.M) {
	if addr := os.Getenv(fakeGateway); addr != "" {
		serveFake(addr)
	}
	goleak.VerifyTestMain(m)
}

func serveFake(addr string) {
	if addr == "fail" {
		_, _ = os.Stderr.WriteString("no such key: sip.listne\n")
		os.Exit(3)
	}
	asked := 0
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	_ = http.ListenAndServe(addr, nil) // ended by a signal
	os.Exit(1)
}
