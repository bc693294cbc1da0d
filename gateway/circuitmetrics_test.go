package gateway

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tandem/trunks"
)

type fixedStates []trunks.State

func (f fixedStates) States() []trunks.State { return f }

func TestCircuitsAreMeasured(t *testing.T) {
	up := trunks.State{Key: trunks.Key{Account: "1", Name: "up"}, Calls: 3}
	down := trunks.State{Key: trunks.Key{Account: "1", Name: "down"}, Failures: 5, OpenTill: time.Now().Add(time.Hour)}
	due := trunks.State{Key: trunks.Key{Account: "2", Name: "due"}, Failures: 5, OpenTill: time.Now().Add(-time.Hour)}
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(newCircuitMetrics(fixedStates{up, down, due})))
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		require.NotEmpty(t, f.GetHelp())
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	require.Equal(t, map[string]float64{
		"tandem_trunk_in_service 1 up": 1, "tandem_trunk_in_service 1 down": 0, "tandem_trunk_in_service 2 due": 1,
		"tandem_trunk_calls 1 up": 3, "tandem_trunk_calls 1 down": 0, "tandem_trunk_calls 2 due": 0,
	}, got)
}
