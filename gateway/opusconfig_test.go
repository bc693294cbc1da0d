package gateway

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/transcode"
)

// TestOpusSettingsReachTheEncoder from the file; transcode.TestConfig sees them go on to the encoder.
func TestOpusSettingsReachTheEncoder(t *testing.T) {
	const account = "accounts: [{id: \"1\", username: u, password: p}]\n"
	for file, want := range map[string]transcode.Config{
		"": {},
		"media: {opusComplexity: 7, opusBitrate: 16000, opusFEC: false, opusExpectedLoss: 12, opusDTX: true}": {
			OpusComplexity: 7, Bitrate: 16000, NoFEC: true, ExpectedLoss: 12, DTX: true,
		},
		"media: {opusFEC: true}": {},
		"media: {opusDTX: true}": {DTX: true},
	} {
		cfg, err := Load([]byte(account + file))
		require.NoError(t, err)
		require.Equal(t, want, cfg.Media.transcoding(), file)
	}
}
