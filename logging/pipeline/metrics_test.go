package pipeline_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline"
)

const ownMetrics = `[INPUT]
    Name fluentbit_metrics
    Tag m
    scrape_interval 1
[INPUT]
    Name dummy
    Tag d
    Samples 1
    Flush_On_Startup on
[FILTER]
    Name modify
    Match *
    Add by us
[OUTPUT]
    Name file
    Match *
    Path DIR
`

// The figures of the pipeline in the text form of Fluent Bit 5.1.1: its lines are below, with other numbers and times.
func TestFluentBitMetrics(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, ownMetrics, pipeline.Options{})
	awaitThat(t, func() string {
		if strings.Count(read(filepath.Join(dir, "m")), "fluentbit_uptime") > 1 {
			return "came twice"
		}
		return ""
	}, "came twice")
	text := read(filepath.Join(dir, "m"))
	form := func(s string) string {
		s = regexp.MustCompile(`(?m)^\S+Z `).ReplaceAllStringFunc(s, func(at string) string {
			if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z $`).MatchString(at) {
				return at
			}
			return "TIME "
		})
		s = regexp.MustCompile(`hostname="[^"]*"`).ReplaceAllString(s, `hostname="HOST"`)
		return regexp.MustCompile(`(?m)= \d+$`).ReplaceAllString(s, "= N")
	}
	got := form(text)
	for _, line := range strings.Split(form(`2026-11-29T14:37:12.224511762Z fluentbit_uptime{hostname="vm"} = 3
2026-11-29T14:37:12.224511762Z fluentbit_hot_reloaded_times{hostname="vm"} = 0
2026-11-29T14:37:11.179232333Z fluentbit_input_bytes_total{name="fluentbit_metrics.0"} = 28421
2026-11-29T14:37:11.179806504Z fluentbit_input_records_total{name="dummy.0"} = 2
2026-11-29T14:37:12.224505981Z fluentbit_input_metrics_scrapes_total{name="fluentbit_metrics.0"} = 3
2026-11-29T14:37:11.179808388Z fluentbit_filter_records_total{name="modify.0"} = 2
2026-11-29T14:37:11.640190483Z fluentbit_output_proc_records_total{name="file.0"} = 2
2026-11-29T14:37:09.238988244Z fluentbit_output_retries_failed_total{name="file.0"} = 0
2026-11-29T14:37:12.224511762Z fluentbit_process_start_time_seconds{hostname="vm"} = 1795963029
2026-11-29T14:37:12.224511762Z fluentbit_build_info{hostname="vm",version="5.1.1",os="linux"} = 1795963029
2026-11-29T14:37:12.224525818Z fluentbit_storage_fs_chunks = 0
2026-11-29T14:37:09.238859514Z fluentbit_input_ingestion_paused{name="dummy.0"} = 0`), "\n") {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("%s is missing in\n%s", line, got)
		}
	}
	if strings.Contains(text, "us") && strings.Contains(text, `"by"`) {
		t.Error("a filter saw metrics")
	}
	if i, j := strings.Index(text, "fluentbit_output_errors_total"), strings.Index(text, "fluentbit_process_start_time_seconds"); i > j {
		t.Error("counters come before gauges")
	}
	if d := read(filepath.Join(dir, "d")); !strings.Contains(d, `"by":"us"`) || strings.Contains(d, "fluentbit_") {
		t.Errorf("records of the other input: %s", d)
	}
}

// Outputs of logs do not get metrics, as in Fluent Bit; what Fluent Bit would send and this pipeline cannot is refused.
func TestMetricsReachNoOutputOfLogs(t *testing.T) {
	port, bodies := troubled(t, 0, nil)
	text := strings.Replace(ownMetrics, "[OUTPUT]", "[OUTPUT]\n    Name http\n    Match *\n    Port "+port+"\n    format json_lines\n[OUTPUT]", 1)
	dir := t.TempDir()
	r := start(t, dir, text, pipeline.Options{})
	awaitMetric(t, r, `fluentbit_output_proc_records_total{name="http.0"} 1`)
	awaitThat(t, func() string {
		return map[bool]string{true: "yes"}[strings.Contains(read(filepath.Join(dir, "m")), "fluentbit_")]
	}, "yes")
	if got := bodies(); strings.Contains(got, "fluentbit_") || !strings.Contains(got, `"by":"us"`) {
		t.Errorf("http got %s", got)
	}
	_, err := tryBuild(dir, strings.Replace(ownMetrics, "Name file\n    Match *\n    Path DIR", "Name forward\n    Match *", 1), pipeline.Options{})
	if err == nil || !strings.Contains(err.Error(), `test.conf:17:1: the output forward of logagent sends no metrics, and its Match takes those with the tag "m"; narrow it`) {
		t.Error(err)
	}
	if _, err := tryBuild(dir, "[SERVICE]\n[INPUT]\n    Name fluentbit_metrics\n    scrape_interval 0\n", pipeline.Options{}); err == nil || !strings.Contains(err.Error(), "scrape_interval must be a second or more") {
		t.Error(err)
	}
}
