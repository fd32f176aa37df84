package pipeline_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/test/authority"
)

// logged is a log that a test may read while a pipeline writes it.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) options() pipeline.Options {
	return pipeline.Options{Log: pipeline.NewLogger(l, new(slog.LevelVar))}
}

func awaitMetric(t *testing.T, r *running, want string) {
	t.Helper()
	awaitThat(t, func() string {
		return fmt.Sprint(strings.Contains(get(t, r.engine, "/api/v1/metrics/prometheus"), want))
	}, "true")
}

// awaitReason waits until the log says one of the reasons why nothing was delivered.
func awaitReason(t *testing.T, r *running, log *logged, reasons ...string) {
	t.Helper()
	awaitThat(t, func() string {
		return fmt.Sprint(slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(log.String(), reason) }))
	}, "true")
	if strings.Contains(get(t, r.engine, "/api/v1/metrics/prometheus"), `fluentbit_output_proc_records_total{name="kafka.0"} 1`) {
		t.Error("the record was delivered")
	}
}

const toBrokers = "    Name kafka\n    Brokers BROKERS\n    Topics logs,web\n    Format raw\n    Raw_Log_Key log\n"

// produce starts a pipeline with one record and the kafka output.
func produce(t *testing.T, brokers []string, log *logged, options string) *running {
	t.Helper()
	text := strings.NewReplacer("    Port PORT\n", "", "Start_Time_Sec 5\n", "Start_Time_Sec 4000000000\n", "Grace 5", "Grace 1").Replace(oneDummy) +
		strings.Replace(toBrokers, "BROKERS", strings.Join(brokers, ","), 1) + options
	return start(t, t.TempDir(), text, log.options())
}

// Brokers that prove who they are get the records, and no others, by the options tls.* and by librdkafka's.
func TestKafkaTLS(t *testing.T) {
	ours, cases := tlsCases(t)
	foreign, named := authority.New(t).Issue(t, "127.0.0.1", 1e12), ours.Issue(t, "elsewhere.example", 1e12)
	good, client := ours.Issue(t, "127.0.0.1", 1e12), ours.Issue(t, "client", 1e12)
	rdkafka := "    tls off\n    rdkafka.security.protocol ssl\n"
	cases["librdkafka's authority"] = tlsCase{good, false, rdkafka + "    rdkafka.ssl.ca.location " + ours.Cert + "\n", true}
	cases["librdkafka's, foreign"] = tlsCase{foreign, false, rdkafka + "    rdkafka.ssl.ca.location " + ours.Cert + "\n", false}
	cases["librdkafka's, wrong name"] = tlsCase{named, false, rdkafka + "    rdkafka.ssl.ca.location " + ours.Cert + "\n", false}
	cases["librdkafka's, any name"] = tlsCase{named, false, rdkafka + "    rdkafka.ssl.ca.location " + ours.Cert + "\n    rdkafka.ssl.endpoint.identification.algorithm none\n", true}
	cases["librdkafka's, foreign, any name"] = tlsCase{foreign, false, rdkafka + "    rdkafka.ssl.ca.location " + ours.Cert + "\n    rdkafka.ssl.endpoint.identification.algorithm none\n", false}
	cases["librdkafka's, not verified"] = tlsCase{foreign, false, rdkafka + "    rdkafka.enable.ssl.certificate.verification false\n", true}
	cases["librdkafka's client"] = tlsCase{good, true, rdkafka + "    rdkafka.ssl.ca.location " + ours.Cert + "\n    rdkafka.ssl.certificate.location " + client.Cert +
		"\n    rdkafka.ssl.key.location " + client.Key + "\n", true}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := &tls.Config{Certificates: []tls.Certificate{c.server.Pair}, MinVersion: tls.VersionTLS12}
			if c.asks {
				settings.ClientAuth, settings.ClientCAs = tls.RequireAndVerifyClientCert, ours.Pool
			}
			b, log := brokers(t, kfake.TLS(settings)), &logged{}
			options := "    tls on\n" + c.options
			if strings.Contains(c.options, "tls off") {
				options = strings.Replace(c.options, "    tls off\n", "", 1)
			}
			if !c.arrives {
				options += "    Retry_Limit no_limits\n    rdkafka.message.timeout.ms 1500\n"
			}
			r := produce(t, b.ListenAddrs(), log, options)
			if c.arrives {
				if got := consume(t, b, kgo.DialTLSConfig(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{client.Pair}})); got != "logs  hello" { // the test's own view
					t.Errorf("got %q", got)
				}
				return
			}
			awaitReason(t, r, log, "tls: ", "certificate")
		})
	}
}

func TestKafkaSASL(t *testing.T) {
	for name, c := range map[string]struct {
		mechanism, password string
		arrives             bool
		says                bool // the broker answers that the credentials are wrong, else it closes the connection
	}{
		"plain":                 {"PLAIN", "right-pass", true, false},
		"plain, wrong password": {"PLAIN", "wrong-pass", false, false},
		"refused with a word":   {"PLAIN", "wrong-pass", false, true},
		"scram 256":             {"SCRAM-SHA-256", "right-pass", true, false},
		"scram 256, wrong":      {"SCRAM-SHA-256", "wrong-pass", false, false},
		"scram 512":             {"scram-sha-512", "right-pass", true, false},
		"scram 512, wrong":      {"SCRAM-SHA-512", "wrong-pass", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, log := brokers(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "bob", "right-pass"), kfake.Superuser("SCRAM-SHA-256", "bob", "right-pass"),
				kfake.Superuser("SCRAM-SHA-512", "bob", "right-pass")), &logged{}
			options := "    rdkafka.security.protocol sasl_plaintext\n    rdkafka.sasl.mechanism " + c.mechanism + "\n    rdkafka.sasl.username bob\n    rdkafka.sasl.password " + c.password + "\n"
			if !c.arrives {
				options += "    Retry_Limit no_limits\n    rdkafka.message.timeout.ms 1500\n"
				if c.says {
					b.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
						b.KeepControl()
						resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
						resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
						return resp, nil, true
					})
				}
			}
			r := produce(t, b.ListenAddrs(), log, options)
			if c.arrives {
				if got := consume(t, b, kgo.SASL(scram.Auth{User: "bob", Pass: "right-pass"}.AsSha256Mechanism())); got != "logs  hello" {
					t.Errorf("got %q", got)
				}
				return
			}
			if c.says {
				awaitReason(t, r, log, "SASL_AUTHENTICATION_FAILED")
			} else {
				awaitReason(t, r, log, "the brokers' last fault")
			}
			if said := log.String(); strings.Contains(said, c.password) {
				t.Errorf("the log tells the password:\n%s", said)
			}
		})
	}
}

// Whatever brokers do, the pipeline ends within its time of grace, and a chunk is delivered once brokers answer.
func TestKafkaFaults(t *testing.T) {
	listen := func(t *testing.T, serve func(net.Conn)) []string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serve(conn)
			}
		}()
		return []string{l.Addr().String()}
	}
	for name, servers := range map[string]func(t *testing.T) []string{
		"refuses": func(t *testing.T) []string { return []string{"127.0.0.1:" + freePort(t)} },
		"closes":  func(t *testing.T) []string { return listen(t, func(c net.Conn) { c.Close() }) },
		"hangs":   func(t *testing.T) []string { return listen(t, func(c net.Conn) { t.Cleanup(func() { c.Close() }) }) },
		"speaks another protocol": func(t *testing.T) []string {
			return listen(t, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() })
		},
		"hangs with records": func(t *testing.T) []string {
			b, held := brokers(t), make(chan struct{})
			t.Cleanup(func() { close(held) })
			b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				b.KeepControl()
				b.SleepControl(func() { <-held })
				return nil, nil, false
			})
			return b.ListenAddrs()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logged{}
			r := produce(t, servers(t), log, "    Retry_Limit no_limits\n    rdkafka.message.timeout.ms 1000\n")
			awaitMetric(t, r, `fluentbit_output_retries_total{name="kafka.0"} 1`)
			if err := r.stop(); err != nil { // it fails if that takes long
				t.Error(err)
			}
			if !strings.Contains(log.String(), "records were not delivered within the time of grace") {
				t.Errorf("the log does not tell what is lost:\n%s", log)
			}
		})
	}
}

// Answers of brokers decide: what can never be taken is dropped, the rest is tried again.
func TestKafkaAnswers(t *testing.T) {
	for code, again := range map[*kerr.Error]bool{
		kerr.NotLeaderForPartition: true, kerr.RequestTimedOut: true, kerr.NotEnoughReplicas: true, kerr.UnknownServerError: true,
		kerr.MessageTooLarge: false, kerr.InvalidTopicException: false, kerr.TopicAuthorizationFailed: false, kerr.InvalidRecord: false, kerr.PolicyViolation: false,
	} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			b, log := brokers(t), &logged{}
			var mu sync.Mutex
			refused := 0
			b.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				mu.Lock()
				defer mu.Unlock()
				refused++
				if again && refused > 2 {
					return nil, nil, false
				}
				b.KeepControl()
				resp := req.ResponseKind().(*kmsg.ProduceResponse)
				for _, topic := range req.(*kmsg.ProduceRequest).Topics {
					one := kmsg.NewProduceResponseTopic()
					one.Topic, one.TopicID = topic.Topic, topic.TopicID
					for _, p := range topic.Partitions {
						part := kmsg.NewProduceResponseTopicPartition()
						part.Partition, part.ErrorCode = p.Partition, code.Code
						one.Partitions = append(one.Partitions, part)
					}
					resp.Topics = append(resp.Topics, one)
				}
				return resp, nil, true
			})
			r := produce(t, b.ListenAddrs(), log, "    Retry_Limit no_limits\n    rdkafka.message.timeout.ms 10000\n")
			if !again {
				awaitMetric(t, r, `fluentbit_output_dropped_records_total{name="kafka.0"} 1`)
				return
			}
			if got := consume(t, b); got != "logs  hello" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Options that would be passed over are refused by name.
func TestKafkaRefuses(t *testing.T) {
	for options, want := range map[string]string{
		"rdkafka.enable.ssl.certificate.verification maybe":  `rdkafka.enable.ssl.certificate.verification must be true or false, not "maybe"`,
		"rdkafka.ssl.endpoint.identification.algorithm http": "must be https or none",
		"rdkafka.nonsense 1":                     "rdkafka.nonsense is not built into logagent",
		"rdkafka.ssl.keystore.location x":        "rdkafka.ssl.keystore.location is not built into logagent",
		"rdkafka.linger.ms soon":                 `rdkafka.linger.ms must be a number from 0 to 900000, not "soon"`,
		"rdkafka.batch.num.messages 0":           "rdkafka.batch.num.messages must be a number from 1",
		"rdkafka.log.connection.close 7":         "rdkafka.log.connection.close must be true or false",
		"rdkafka.message.timeout.ms -5":          "rdkafka.message.timeout.ms must be a number from 0",
		"rdkafka.acks two":                       "rdkafka.acks must be 0, 1, or -1",
		"rdkafka.security.protocol tls":          `there is no protocol "tls"`,
		"rdkafka.security.protocol sasl_ssl":     "sasl_ssl needs rdkafka.sasl.mechanism",
		"rdkafka.sasl.username bob":              "credentials need rdkafka.security.protocol sasl_ssl",
		"rdkafka.sasl.mechanism GSSAPI":          `the SASL mechanism "GSSAPI" is not built into logagent`,
		"rdkafka.partitioner fnv1a":              `the partitioner "fnv1a" is not built into logagent`,
		"rdkafka.ssl.ca.location /none":          "the certificates of authorities cannot be read",
		"rdkafka.ssl.certificate.location /none": "cannot be used",
		"rdkafka.compression.codec rar":          `there is no compression "rar"`,
		"tls on\n    tls.ca_path /none":          "tls.ca_path /none holds no certificates",
		"tls on\n    tls.min_version SSLv3":      `tls.min_version "SSLv3" is not known`,
		"tls on\n    tls.ciphers AES":            `the option "tls.ciphers" of kafka is not built into logagent yet`,
		"Timestamp_Format epoch":                 `there is no Timestamp_Format "epoch"`,
	} {
		_, err := tryBuild(t.TempDir(), strings.Replace(oneDummy, "    Port PORT\n", "", 1)+strings.Replace(toBrokers, "BROKERS", "127.0.0.1:1", 1)+"    "+options+"\n", pipeline.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "test.conf:") {
			t.Errorf("%s: %v\nwant %s", options, err, want)
		}
	}
}
