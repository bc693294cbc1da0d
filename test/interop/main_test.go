package interop

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"tandem/test/harness"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		harness.RemoveProgram()
		os.Exit(code)
	}))
}
