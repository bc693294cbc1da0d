package sdk_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/test/harness"
	"tandem/test/sdk"
)

// TestServerSDK walks through every operation that the published server SDK has, against a gateway.
func TestServerSDK(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	cmd := exec.CommandContext(t.Context(), "node", "walk.js")
	cmd.Dir = sdk.Dir(t)
	cmd.Env = append(os.Environ(),
		"BASE_URL="+g.URL+"/v1", "ACCOUNT="+harness.Account, "USERNAME="+harness.User, "PASSWORD="+harness.Password)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	done := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if word := strings.Fields(line); len(word) > 1 && word[0] == "ok" {
			done[word[1]] = true
		}
	}
	assert.Len(t, done, 11, "%s", out)
}
