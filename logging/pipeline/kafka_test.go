package pipeline_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weft-dev/weft/logging/pipeline"
)

// brokers speak Kafka's protocol on the loopback and keep records in memory.
func brokers(t *testing.T, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2), kfake.SeedTopics(2, "logs", "web")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func toKafka(t *testing.T, c *kfake.Cluster, options string) *running {
	t.Helper()
	text := strings.NewReplacer("    Port PORT\n", "", "Start_Time_Sec 5\n", "Start_Time_Sec 4000000000\n").Replace(oneDummy) + // older records would be past their retention
		"    Name kafka\n    Brokers " + strings.Join(c.ListenAddrs(), ",") + "\n    Topics logs,web\n" + options
	return start(t, t.TempDir(), text, pipeline.Options{})
}

// consume gives the first record of all topics as TOPIC KEY VALUE.
func consume(t *testing.T, c *kfake.Cluster, options ...kgo.Opt) string {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("logs", "web"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		found := client.PollFetches(ctx).Records()
		if len(found) > 0 {
			return fmt.Sprintf("%s %s %s", found[0].Topic, found[0].Key, found[0].Value)
		}
	}
	t.Fatal("no record came")
	return ""
}

func TestKafka(t *testing.T) {
	for name, c := range map[string]struct{ options, want string }{
		"json":         {"", `logs  {"@timestamp":4000000000.5,"k":{"app":"web","x.y":"z"},"log":"hello"}`},
		"iso8601":      {"    Timestamp_Format iso8601\n    Timestamp_Key at\n    rdkafka.compression.codec zstd\n", `logs  {"at":"2096-10-02T07:06:40.500000Z","k":{"app":"web","x.y":"z"},"log":"hello"}`},
		"raw, by key":  {"    Format raw\n    Raw_Log_Key log\n    Message_Key_Field log\n    Topic_Key $k['app']\n    rdkafka.acks 1\n", "web hello hello"},
		"msgpack":      {"    Format msgpack\n    Message_Key fixed\n    rdkafka.acks 0\n", "logs fixed \x83\xaa@timestamp\xcbA\xed\xcde\x00\x10\x00\x00\xa1k\x82\xa3app\xa3web\xa3x.y\xa1z\xa3log\xa5hello"},
		"not a topic":  {"    Topic_Key log\n    Format raw\n    Raw_Log_Key log\n", "logs  hello"},
		"librdkafka's": {"    rdkafka.client.id me\n    rdkafka.compression.codec lz4\n    rdkafka.request.timeout.ms 60000\n    Format raw\n    Raw_Log_Key log\n", "logs  hello"},
	} {
		t.Run(name, func(t *testing.T) {
			b := brokers(t)
			toKafka(t, b, c.options)
			if got := consume(t, b); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// A key leads to the partition that librdkafka would choose: zlib's checksum of it.
func TestKafkaPartition(t *testing.T) {
	for options, want := range map[string]int32{"": 0x3610a686 % 64, "    rdkafka.partitioner consistent_random\n": 0x3610a686 % 64, "    rdkafka.partitioner murmur2_random\n": 2132663229 % 64} {
		b, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(64, "logs"))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		toKafka(t, b, "    Message_Key hello\n"+options)
		client, err := kgo.NewClient(kgo.SeedBrokers(b.ListenAddrs()...), kgo.ConsumeTopics("logs"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var found []*kgo.Record
		for ctx.Err() == nil && len(found) == 0 { // a poll may end without any
			found = client.PollFetches(ctx).Records()
		}
		if len(found) != 1 || found[0].Partition != want {
			t.Errorf("%q: got %d records, %v; want partition %d", options, len(found), found, want)
		}
	}
}
