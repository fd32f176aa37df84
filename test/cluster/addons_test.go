package cluster

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func claim(name, mode, more string) string {
	return `apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: ` + name + `}
spec: {accessModes: [` + mode + `], resources: {requests: {storage: 10Mi}}` + more + `}
---
`
}

// mounting is a pod as a user of the given number that mounts a claim at /data.
func mounting(name, claim, script string) string {
	return strings.Replace(shell(name, script), "    image:", "    securityContext: {runAsUser: 4711, runAsNonRoot: true}\n    volumeMounts: [{name: data, mountPath: /data}]\n    image:", 1) +
		"  volumes: [{name: data, persistentVolumeClaim: {claimName: " + claim + "}}]\n---\n"
}

// volumesOf are the folders of volumes on the disk.
func (p place) volumesOf(claim string) []string {
	p.t.Helper()
	uid := p.kubectl("get", "pvc", claim, "-o", "jsonpath={.metadata.uid}")
	found, err := filepath.Glob(filepath.Join(p.State, "data", "volumes", "pvc-"+uid))
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

func TestVolumesOutliveTheirPods(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(claim("data", "ReadWriteOnce", "") + mounting("writer", "data", "echo kept > /data/file"))
	p.pod("writer", "done", succeeded)
	p.kubectl("delete", "pod", "writer")
	p.apply(mounting("reader", "data", "test $(cat /data/file) = kept"))
	p.pod("reader", "done", succeeded)
	folders := p.volumesOf("data")
	if len(folders) != 1 {
		t.Fatalf("folders: %v", folders)
	}
	volume := filepath.Base(folders[0])
	p.kubectl("delete", "pod", "reader")
	p.kubectl("delete", "pvc", "data")
	p.until("the volume to be gone", func() (bool, string) {
		_, err := os.Stat(folders[0])
		out, e := p.Kubectl(t.Context(), "", "get", "pv", volume, "--ignore-not-found", "-o", "name")
		return os.IsNotExist(err) && e == nil && out == "", out
	})
}

func TestVolumesAreShared(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(claim("shared", "ReadWriteMany", "") + mounting("one", "shared", "echo from one > /data/one; "+forever) + mounting("two", "shared", "until test -s /data/one; do sleep 0.1; done"))
	p.pod("two", "done", succeeded)
}

func TestVolumeThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(claim("raw", "ReadWriteOnce", ", volumeMode: Block") +
		strings.Replace(shell("raw", forever), "    image:", "    volumeDevices: [{name: data, devicePath: /dev/data}]\n    image:", 1) +
		"  volumes: [{name: data, persistentVolumeClaim: {claimName: raw}}]\n")
	p.until("the event that says why", func() (bool, string) {
		out := p.kubectl("get", "events", "--field-selector", "involvedObject.name=raw,reason=ProvisioningFailed", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(out, "volumeMode must be Filesystem"), out
	})
}

func TestRetainedVolumeKeepsItsFolder(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	class := p.ns
	if _, err := p.Kubectl(t.Context(), `apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: `+class+`}
provisioner: weft.dev/local-path
reclaimPolicy: Retain
volumeBindingMode: Immediate
`, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	defer p.kubectl("delete", "storageclass", class)
	p.apply(claim("kept", "ReadWriteOnce", ", storageClassName: "+class))
	p.until("the claim to be bound although no pod wants it", func() (bool, string) {
		out := p.kubectl("get", "pvc", "kept", "-o", "jsonpath={.status.phase}")
		return out == "Bound", out
	})
	folders := p.volumesOf("kept")
	p.kubectl("delete", "pvc", "kept")
	volume := filepath.Base(folders[0])
	p.until("the volume to be released", func() (bool, string) {
		out := p.kubectl("get", "pv", volume, "-o", "jsonpath={.status.phase}")
		return out == "Released", out
	})
	if _, err := os.Stat(folders[0]); err != nil {
		t.Error(err)
	}
	p.kubectl("delete", "pv", volume)
}

func balanced(name, port string) string {
	return `apiVersion: v1
kind: Service
metadata: {name: ` + name + `}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{name: http, port: ` + port + `, targetPort: 8080}, {name: echo, port: ` + port + `, protocol: UDP, targetPort: 8082}]
---
`
}

// addressOf waits for where a Service answers on the host.
func (p place) addressOf(service string) []string {
	p.t.Helper()
	var addresses string
	p.until("the Service "+service+" to answer on the host", func() (bool, string) {
		addresses = p.kubectl("get", "service", service, "-o", `jsonpath={.metadata.annotations.weft\.dev/address}`)
		ip := p.kubectl("get", "service", service, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		return addresses != "" && ip == "127.0.0.1 ::1", ip
	})
	return strings.Split(addresses, ",")
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestLoadBalancersAnswerOnTheHost(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	port := freePort(t)
	p.apply(`apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: IMAGE}]}
---
` + balanced("first", port))
	p.pod("web", "ready", ready)
	first := p.addressOf("first")
	if first[0] != "127.0.0.1:"+port {
		t.Errorf("the free port %s was asked for, the answer is at %s", port, first)
	}
	p.apply(balanced("second", port))
	second := p.addressOf("second")
	if second[0] == first[0] || len(second) != 2 {
		t.Errorf("both at %s", second)
	}
	p.until("the event that says so", func() (bool, string) {
		out := p.kubectl("get", "events", "--field-selector", "involvedObject.name=second,reason=OtherPort", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(out, second[0]), out
	})
	inSix := func(address string) string { return strings.Replace(address, "127.0.0.1", "[::1]", 1) }
	for _, addresses := range [][]string{first, second, {inSix(first[0]), inSix(first[1])}} {
		p.until("an answer by TCP", func() (bool, string) {
			client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Get("http://" + addresses[0] + "/")
			if err != nil {
				return false, err.Error()
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return err == nil && strings.Contains(string(body), "hostname=web"), string(body)
		})
		p.until("an echo by UDP", func() (bool, string) {
			conn, err := net.Dial("udp", addresses[1])
			if err != nil {
				return false, err.Error()
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("hello")); err != nil {
				return false, err.Error()
			}
			answer := make([]byte, 100)
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			n, err := conn.Read(answer)
			return err == nil && string(answer[:n]) == "hello", string(answer[:n])
		})
	}
	if err := p.Clients.CoreV1().Services(p.ns).Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{first[0], inSix(first[0])} {
		p.until(address+" to be free", func() (bool, string) {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return false, err.Error()
			}
			l.Close()
			return true, ""
		})
	}
	p.kubectl("patch", "service", "second", "-p", `{"spec":{"type":"ClusterIP"}}`)
	p.until("the status to be empty", func() (bool, string) {
		s, err := p.Clients.CoreV1().Services(p.ns).Get(t.Context(), "second", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return len(s.Status.LoadBalancer.Ingress) == 0 && s.Annotations["weft.dev/address"] == "" && s.Spec.Type == corev1.ServiceTypeClusterIP, "still there"
	})
}

func TestStatusShowsLoadBalancers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(`apiVersion: v1
kind: Service
metadata: {name: shown}
spec: {type: LoadBalancer, selector: {app: none}, ports: [{port: 8080}]}
`)
	shows := func() string {
		status, err := p.Control.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range status.LoadBalancers {
			if b.Namespace == p.ns && b.Service == "shown" {
				return b.Address
			}
		}
		return ""
	}
	p.until("the address in the status", func() (bool, string) { return strings.HasPrefix(shows(), "127.0.0.1:"), shows() })
	p.kubectl("delete", "service", "shown")
	p.until("the address to go", func() (bool, string) { return shows() == "", shows() })
}
