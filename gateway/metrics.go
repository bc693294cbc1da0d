package gateway

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves what Prometheus collects.
func (a *App) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "tandem", Name: name, Help: help}, value))
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge("dialogs_live", "Dialogs that are not terminated.", func() float64 { return float64(a.calls.Live()) })
	gauge("participants_live", "Participants with a device or a phone leg.", func() float64 { return float64(a.people.Live()) })
	gauge("rtp_ports_open", "RTP ports that phone legs hold.", func() float64 { open, _ := a.ports.InUse(); return float64(open) })
	registry.MustRegister(newTrunkMetrics(a.phone))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}
