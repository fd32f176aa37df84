package pipeline_test

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline"
)

// What is accepted and changes nothing is told, with its line, once for each option; a value that is the engine's default is not.
func TestWhatChangesNothingIsTold(t *testing.T) {
	for _, c := range []struct{ text, told, silent string }{
		{"[INPUT]\n    Name dummy\n[OUTPUT]\n    Name http\n    Match *\n    http.read_idle_timeout 5s\n    net.max_worker_connections 2\n    net.dns.resolver LEGACY\n    tls.debug 4\n    net.keepalive_max_recycle 3\n    net.connect_timeout_log_error on\n",
			"http.read_idle_timeout net.dns.resolver tls.debug net.keepalive_max_recycle", "net.connect_timeout_log_error"},
		{"[INPUT]\n    Name tail\n    Path DIR/*\n    threaded on\n    DB.locking true\n    DB.journal_mode WAL\n    static_batch_size 1M\n    Multiline_Flush 9\n    Docker_Mode_Flush 4\n    rate_gate on\n    rate_gate.backpressure false\n    rate_gate.resume_ratio 0.5\n[OUTPUT]\n    Name null\n    Match *\n    Format json\n",
			"threaded DB.locking static_batch_size Multiline_Flush Docker_Mode_Flush rate_gate.resume_ratio Format", "DB.journal_mode rate_gate.backpressure"},
		{"[INPUT]\n    Name dummy\n    rate_gate.backpressure true\n[FILTER]\n    Name kubernetes\n    Match *\n    Buffer_Size 0\n    DNS_Retries 6\n    DNS_Wait_Time 5\n    Kube_Namespace_File /x\n    Cache_Use_Docker_Id on\n[OUTPUT]\n    Name file\n    Match *\n    Format plain\n    Delimiter ;\n    Template {x}\n    Label_Delimiter :\n    Fallback_Path /x\n",
			"rate_gate.backpressure Buffer_Size DNS_Wait_Time Kube_Namespace_File Delimiter Template Label_Delimiter Fallback_Path", "DNS_Retries Cache_Use_Docker_Id"},
		{"[SERVICE]\n    Daemon on\n    Log_File /none\n    Coro_Stack_Size 9000\n    json.escape_unicode on\n    storage.checksum on\n    storage.trim_files on\n    json.convert_nan_to_null on\n    storage.backlog.flush_on_shutdown on\n    storage.inherit off\n    storage.type filesystem\n[INPUT]\n    Name dummy\n[OUTPUT]\n    Name loki\n    Match *\n    Buffer_Size 0.5M\n",
			"Daemon Log_File Coro_Stack_Size json.escape_unicode storage.trim_files storage.type", "storage.checksum json.convert_nan_to_null storage.backlog.flush_on_shutdown storage.inherit Buffer_Size"},
		{"[INPUT]\n    Name dummy\n[OUTPUT]\n    Name es\n    Match *\n    Buffer_Size 20MB\n[OUTPUT]\n    Name forward\n    Match *\n    Fluentd_Compat on\n", "Buffer_Size Fluentd_Compat", ""},
	} {
		var log bytes.Buffer
		text := c.text
		if _, err := tryBuild(t.TempDir(), text, pipeline.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, "[SERVICE]") {
			text = "[SERVICE]\n    Flush 0.05\n    Grace 10\n" + text
		}
		for _, key := range strings.Fields(c.told) {
			before, _, _ := strings.Cut(text, "    "+key+" ")
			at := "test.conf:" + strconv.Itoa(strings.Count(before, "\n")+1) + ":"
			if strings.Count(log.String(), "option="+key+" ") != 1 || !told(log.String(), key, at) {
				t.Errorf("%s at %s: the log says:\n%s", key, at, log.String())
			}
		}
		for _, key := range strings.Fields(c.silent) {
			if strings.Contains(log.String(), "option="+key+" ") {
				t.Errorf("%s is told:\n%s", key, log.String())
			}
		}
	}
}

func told(log, key, at string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "option="+key+" ") && strings.Contains(line, at) {
			return true
		}
	}
	return false
}
