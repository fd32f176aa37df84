package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/registry"
)

//go:embed snapshotter.yaml.tmpl
var snapshotterManifests string

// snapshotterManifest is what the DaemonSet is made of.
type snapshotterManifest struct {
	Image, Namespace, Root, Address, ImageService, KeeperCgroup, KeeperMounts string
	PullSecrets                                                               []string // namespaces; * for all
	PodEvents                                                                 bool
	MetricsPort                                                               int
}

// AllSecrets says that the Secrets of all namespaces are read.
func (m snapshotterManifest) AllSecrets() bool { return slices.Contains(m.PullSecrets, "*") }

// SecretNamespaces are those whose Secrets are read, if it is not all of them.
func (m snapshotterManifest) SecretNamespaces() []string {
	if m.AllSecrets() {
		return nil
	}
	return m.PullSecrets
}

// PullSecretsFlag is the flag's value.
func (m snapshotterManifest) PullSecretsFlag() string { return strings.Join(m.PullSecrets, ",") }

// AsksCluster says that the service account has rights.
func (m snapshotterManifest) AsksCluster() bool { return len(m.PullSecrets) > 0 || m.PodEvents }

// Folder is that of the socket.
func (m snapshotterManifest) Folder() string { return filepath.Dir(m.Address) }

var namespacePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (m snapshotterManifest) check() error {
	if m.Image == "" {
		return output.Usagef("--image: name the image that holds the programs /lazyd and /keeper")
	}
	if _, err := registry.ParseReference(m.Image); err != nil {
		return output.Usagef("--image: %w", err)
	}
	if !namespacePattern.MatchString(m.Namespace) {
		return output.Usagef("--namespace: %q is no name of a namespace", m.Namespace)
	}
	for _, f := range []struct{ flag, path string }{{"--root", m.Root}, {"--address", m.Address}, {"--image-service", m.ImageService}} {
		if f.path == "" && f.flag == "--image-service" {
			continue
		}
		if !filepath.IsAbs(f.path) || filepath.Clean(f.path) != f.path || f.path == "/" {
			return output.Usagef("%s: %q is no absolute path of a file or folder", f.flag, f.path)
		}
	}
	if m.KeeperCgroup == "" || strings.HasPrefix(m.KeeperCgroup, "/") || filepath.Clean(m.KeeperCgroup) != m.KeeperCgroup || strings.HasPrefix(m.KeeperCgroup, "..") {
		return output.Usagef("--keeper-cgroup: %q is no name below the root of the control groups", m.KeeperCgroup)
	}
	if !filepath.IsAbs(m.KeeperMounts) {
		return output.Usagef("--keeper-mounts: %q is no absolute path", m.KeeperMounts)
	}
	for _, ns := range m.PullSecrets {
		switch {
		case ns == "*" && len(m.PullSecrets) > 1:
			return output.Usagef("--pull-secrets: * stands for all namespaces: name no others")
		case ns != "*" && !namespacePattern.MatchString(ns):
			return output.Usagef("--pull-secrets: %q is no name of a namespace", ns)
		}
	}
	if m.MetricsPort < 1 || m.MetricsPort > 65535 {
		return output.Usagef("--metrics-port: %d is no port", m.MetricsPort)
	}
	return nil
}

// render writes the manifests. Texts are quoted as JSON, which YAML reads.
func (m snapshotterManifest) render() (string, error) {
	quote := func(s string) (string, error) {
		b, err := json.Marshal(s)
		return string(b), err
	}
	t, err := template.New("").Funcs(template.FuncMap{"quote": quote}).Parse(snapshotterManifests)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, m)
	return b.String(), err
}

func (a *app) snapshotterManifestsCommand() *cobra.Command {
	var m snapshotterManifest
	c := &cobra.Command{
		Use:   "manifests",
		Short: "Print the DaemonSet that runs the snapshotter on the nodes of a cluster",
		Long: `Print a namespace, a service account and a DaemonSet, which run the program lazyd on every node. containerd on the nodes has to be
told of it, as the first lines of the output say. The image holds nothing but the programs lazyd and keeper:

  printf 'FROM scratch\nCOPY lazyd keeper /\n' | docker build -t IMAGE -f - bin

The processes that guard readers are the node's: keeper and a copy of lazyd, which fills what is mounted while there is no pod, are put below --root, and run in the
node's mount namespace and control groups of their own. So they outlive deletion and upgrade of the pod, and keep nothing of it.

The service account has no rights, unless --pull-secrets or --pod-events ask for them: to list and watch Secrets of the namespaces that are named, and to
list pods and create events.`,
		Example: `  weft snapshotter manifests --image registry.example.com/lazyd:v1 | kubectl apply -f -
  weft snapshotter manifests --image registry.example.com/lazyd:v1 --pull-secrets team-a,team-b --pod-events`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := m.check(); err != nil {
				return err
			}
			text, err := m.render()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	s := c.Flags()
	s.StringVar(&m.Image, "image", "", "`image` that holds the programs /lazyd and /keeper (required)")
	s.StringVar(&m.Namespace, "namespace", "weft-system", "namespace of the DaemonSet")
	s.StringVar(&m.Root, "root", "/var/lib/weft/snapshotter", "folder of the nodes for snapshots and what is fetched, on ext4, xfs or btrfs")
	s.StringVar(&m.Address, "address", "/run/weft/snapshotter.sock", "socket that containerd asks")
	s.StringVar(&m.ImageService, "image-service", "", "containerd's socket, for the credentials of pods: see weft snapshotter run --help (empty: none)")
	s.StringVar(&m.KeeperCgroup, "keeper-cgroup", "weft-keeper", "control groups of the processes that guard readers, below the root of the nodes' control groups: NAME, NAME-holder and NAME-stand-by")
	s.StringVar(&m.KeeperMounts, "keeper-mounts", "/proc/1/ns/mnt", "`file` of the nodes' own mount namespace, in which these processes live")
	s.StringSliceVar(&m.PullSecrets, "pull-secrets", nil, "`namespaces` whose Secrets of the type kubernetes.io/dockerconfigjson hold credentials of registries, * for all (empty: none)")
	s.BoolVar(&m.PodEvents, "pod-events", false, "give pods an event whose image was guarded by no process for a while")
	s.IntVar(&m.MetricsPort, "metrics-port", 9110, "port for Prometheus on the nodes' loopback, which also says whether the snapshotter is ready")
	return c
}
