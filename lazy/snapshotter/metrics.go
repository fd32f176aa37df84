//go:build linux

package snapshotter

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weft-dev/weft/lazy"
)

// Metrics count what the snapshotter does, in Prometheus's form.
type Metrics struct {
	registry  *prometheus.Registry
	layers    *prometheus.CounterVec
	images    *prometheus.CounterVec
	fallbacks *prometheus.CounterVec
	mounts    prometheus.Histogram
}

// NewMetrics makes metrics that have counted nothing.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		layers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_snapshotter_lazy_layers_total", Help: "Layers that were not unpacked because their image is mounted."}, []string{"kind"}),
		images: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_snapshotter_images_total", Help: "Images that were asked for, by what became of them."}, []string{"result"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_snapshotter_fallbacks_total", Help: "Images with a converted form that were pulled as usual, by the step that failed."}, []string{"step"}),
		mounts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weft_snapshotter_mount_seconds", Help: "How long mounting an image took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}}),
	}
	m.registry.MustRegister(m.layers, m.images, m.fallbacks, m.mounts)
	return m
}

func (m *Metrics) lazy(top bool) {
	if top {
		m.layers.WithLabelValues("mounted").Inc()
		m.images.WithLabelValues("mounted").Inc()
		return
	}
	m.layers.WithLabelValues("empty").Inc()
}

func (m *Metrics) ordinary() { m.images.WithLabelValues("ordinary").Inc() }

func (m *Metrics) fallback(step string) {
	m.images.WithLabelValues("fallback").Inc()
	m.fallbacks.WithLabelValues(step).Inc()
}

func (m *Metrics) mounted(d time.Duration) { m.mounts.Observe(d.Seconds()) }

// Serve adds what a service tells about its images.
func (m *Metrics) Serve(s *lazy.Service) { m.registry.MustRegister(imagesCollector{s}) }

// Handler answers Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// imagesCollector tells about the images of a service when it is asked.
type imagesCollector struct{ service *lazy.Service }

var (
	imageLabels = []string{"image"}
	described   = map[string]*prometheus.Desc{
		"bytes":      prometheus.NewDesc("weft_lazy_image_bytes", "Decoded bytes of all devices of an image.", imageLabels, nil),
		"present":    prometheus.NewDesc("weft_lazy_image_present_bytes", "Decoded bytes of an image that are there.", imageLabels, nil),
		"fetched":    prometheus.NewDesc("weft_lazy_image_fetched_bytes_total", "Bytes of an image that were fetched, as they are stored.", imageLabels, nil),
		"prefetched": prometheus.NewDesc("weft_lazy_image_prefetched_bytes_total", "Bytes of these because of what was learned.", imageLabels, nil),
		"read":       prometheus.NewDesc("weft_lazy_image_read_bytes_total", "Bytes of an image that readers had to ask for.", imageLabels, nil),
		"events":     prometheus.NewDesc("weft_lazy_image_events_total", "How often readers had to ask.", imageLabels, nil),
		"failed":     prometheus.NewDesc("weft_lazy_image_failed_reads_total", "Reads of an image that failed.", imageLabels, nil),
		"mounts":     prometheus.NewDesc("weft_lazy_image_mounts", "Where an image is mounted, counted.", imageLabels, nil),
		"asked":      prometheus.NewDesc("weft_lazy_image_fuse_reads_total", "Reads of an image that came through FUSE.", imageLabels, nil),
		"behind":     prometheus.NewDesc("weft_lazy_image_fuse_files_behind_total", "Opened files that FUSE let the kernel read itself.", imageLabels, nil),
		"unguarded":  prometheus.NewDesc("weft_lazy_image_unguarded_mounts", "Mounts of which reads may have seen zeros or, through FUSE, have failed.", imageLabels, nil),
	}
)

var modeDesc = prometheus.NewDesc("weft_lazy_mode", "How mounted images are filled, and why it is not by fanotify where it was to be chosen.", []string{"mode", "reason"}, nil)

// Describe implements prometheus.Collector.
func (imagesCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range described {
		ch <- d
	}
	ch <- modeDesc
}

// Collect implements prometheus.Collector.
func (c imagesCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(modeDesc, prometheus.GaugeValue, 1, string(c.service.Mode()), c.service.Reason())
	for _, im := range c.service.Images() {
		s := im.Stats()
		for key, v := range map[string]int64{"bytes": s.Bytes, "present": s.Present, "mounts": int64(len(s.Mounts)), "unguarded": int64(len(s.Unguarded))} {
			ch <- prometheus.MustNewConstMetric(described[key], prometheus.GaugeValue, float64(v), im.Name())
		}
		for key, v := range map[string]int64{"fetched": s.Fetched, "prefetched": s.Prefetch, "read": s.Read, "events": s.Events, "failed": s.Failed, "asked": s.Asked, "behind": s.Through} {
			ch <- prometheus.MustNewConstMetric(described[key], prometheus.CounterValue, float64(v), im.Name())
		}
	}
}
