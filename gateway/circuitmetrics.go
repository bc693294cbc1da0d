package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tandem/trunks"
)

// circuits knows how the trunks do.
type circuits interface {
	States() []trunks.State
}

// circuitMetrics tells Prometheus of the trunks there are: two series for each, and none of one that was deleted.
type circuitMetrics struct {
	from             circuits
	inService, calls *prometheus.Desc
}

func newCircuitMetrics(from circuits) *circuitMetrics {
	labels := []string{"account", "trunk"}
	return &circuitMetrics{
		from: from,
		inService: prometheus.NewDesc("tandem_trunk_in_service",
			"Whether a trunk takes calls (1), or is left alone after failures until it may be tried again (0).", labels, nil),
		calls: prometheus.NewDesc("tandem_trunk_calls", "Calls that are on a trunk now, both ways.", labels, nil),
	}
}

// Describe is part of prometheus.Collector.
func (m *circuitMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.inService
	to <- m.calls
}

// Collect is part of prometheus.Collector.
func (m *circuitMetrics) Collect(to chan<- prometheus.Metric) {
	for _, s := range m.from.States() {
		up := 1.0
		if s.OpenTill.After(time.Now()) {
			up = 0
		}
		to <- prometheus.MustNewConstMetric(m.inService, prometheus.GaugeValue, up, s.Account, s.Name)
		to <- prometheus.MustNewConstMetric(m.calls, prometheus.GaugeValue, float64(s.Calls), s.Account, s.Name)
	}
}
