package test

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"

	"tandem/store/storetest"
	"tandem/test/harness"
)

// atOnce is how many of the tests that measure no sound run at the same time: they wait for processes and timers, and
// need little of the machine.
const atOnce = "4"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		harness.RemoveProgram()
		storetest.Stop()
		os.Exit(code)
	}))
}
