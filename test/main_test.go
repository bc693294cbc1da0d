package test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"tandem/store/storetest"
	"tandem/test/harness"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		harness.RemoveProgram()
		storetest.Stop()
		os.Exit(code)
	}))
}
