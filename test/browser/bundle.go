package browser

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
	"github.com/stretchr/testify/require"

	"tandem/test/sdk"
)

// bundled is the page's script, made once for all tests of the program.
var bundled = struct {
	sync.Mutex
	script []byte
}{}

// bundle joins the driver with the SDK as npm installed it, and does not change a line of that.
func bundle(tb testing.TB) []byte {
	tb.Helper()
	bundled.Lock()
	defer bundled.Unlock()
	if bundled.script == nil {
		script, err := build(sdk.Dir(tb))
		require.NoError(tb, err, "bundle the SDK")
		bundled.script = script
	}
	return bundled.script
}

func build(packages string) ([]byte, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return nil, errors.New("no source path")
	}
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{filepath.Join(filepath.Dir(file), "driver", "driver.js")},
		NodePaths:   []string{filepath.Join(packages, "node_modules")},
		Bundle:      true,
		Format:      api.FormatIIFE,
		Platform:    api.PlatformBrowser,
		Define:      map[string]string{"global": "globalThis"},
		LogLevel:    api.LogLevelSilent,
	})
	if len(result.Errors) > 0 {
		return nil, errors.New(api.FormatMessages(result.Errors, api.FormatMessagesOptions{})[0])
	}
	return result.OutputFiles[0].Contents, nil
}
