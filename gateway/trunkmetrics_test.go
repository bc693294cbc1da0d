package gateway

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tandem/trunks"
)

func TestRegistrationsAreMeasured(t *testing.T) {
	book := trunks.NewBook()
	book.SetRegistration(trunks.Key{Account: "1", Name: "up"}, trunks.Registered, time.Now().Add(time.Hour), "")
	book.SetRegistration(trunks.Key{Account: "1", Name: "down"}, trunks.Failed, time.Time{}, "403 Forbidden")
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(newTrunkMetrics(book)))
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	require.Len(t, got, 3)
	require.Equal(t, 1.0, got["tandem_trunk_registered 1 registered up"], got)
	require.Equal(t, 0.0, got["tandem_trunk_registered 1 failed down"], got)
	require.InDelta(t, 3600, got["tandem_trunk_registration_expires_seconds 1 up"], 60)
}
