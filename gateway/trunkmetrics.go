package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tandem/trunks"
)

// registrar knows how the registrations with trunks stand.
type registrar interface {
	Registrations() map[trunks.Key]trunks.Registration
}

// trunkMetrics tells Prometheus of the registrations, whichever trunks there are at that time.
type trunkMetrics struct {
	from               registrar
	registered, expiry *prometheus.Desc
}

func newTrunkMetrics(from registrar) *trunkMetrics {
	labels := []string{"account", "trunk", "state"}
	return &trunkMetrics{
		from: from,
		registered: prometheus.NewDesc("tandem_trunk_registered",
			"Whether a trunk with register: true has our registration (1) or not (0); state says it in a word.", labels, nil),
		expiry: prometheus.NewDesc("tandem_trunk_registration_expires_seconds",
			"In how many seconds a trunk's registration expires unless it is refreshed.", labels[:2], nil),
	}
}

// Describe is part of prometheus.Collector.
func (m *trunkMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.registered
	to <- m.expiry
}

// Collect is part of prometheus.Collector.
func (m *trunkMetrics) Collect(to chan<- prometheus.Metric) {
	for key, r := range m.from.Registrations() {
		registered := 0.0
		if r.State == trunks.Registered {
			registered = 1
			to <- prometheus.MustNewConstMetric(m.expiry, prometheus.GaugeValue, time.Until(r.Expires).Seconds(), key.Account, key.Name)
		}
		to <- prometheus.MustNewConstMetric(m.registered, prometheus.GaugeValue, registered, key.Account, key.Name, string(r.State))
	}
}
