package test

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"

	"tandem/store/storetest"
	"tandem/test/harness"
)

// atOnce is how many of the tests that call t.Parallel run at the same time: they wait for processes and timers, and need
// little of the machine. Who measures sound or keys does not call it: what plays beside others on two cores stutters.
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
