// Package cluster runs one embedded cluster out of one state folder: it lays out the folder, gives the node its network
// and mount namespaces and its cgroups, starts every process and keeps it alive, and removes every trace again.
package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weft-dev/weft/embedded/pki"
	"github.com/weft-dev/weft/supervise/control"
)

// identityVersion is the version of the identity file's format.
const identityVersion = 1

// Identity is what a cluster keeps for its whole life, in the file cluster.json.
type Identity struct {
	Version      int    `json:"version"`
	ID           string `json:"id"`           // eight hexadecimal digits; names the cgroup
	APIPort      int    `json:"apiPort"`      // on the host's loopback; the last one that was free
	RegistryPort int    `json:"registryPort"` // likewise
	// RegistryPorts are all that the registry ever had: images in existing objects are named by them.
	RegistryPorts []int `json:"registryPorts"`
	// Snapshotter is the one that was chosen last. It is empty in clusters made when overlayfs was what nobody chose; they stay with it.
	Snapshotter string `json:"snapshotter,omitempty"`
}

// State is a state folder.
type State struct {
	Dir string // absolute
}

func (s State) path(elements ...string) string {
	return filepath.Join(append([]string{s.Dir}, elements...)...)
}

// PKI is the folder of certificates and keys.
func (s State) PKI() pki.Folder { return pki.Folder{Path: s.path("pki")} }

// Components is the folder of the components' kubeconfig files.
func (s State) Components() string { return s.path("components") }

func (s State) component(name string) string { return s.path("components", name+".kubeconfig") }

// Kubeconfig is the administrator's.
func (s State) Kubeconfig() string { return s.path("kubeconfig") }

// Run holds sockets and what is written anew at each start.
func (s State) Run() string { return s.path("run") }

// Log is the log file of a component.
func (s State) Log(component string) string { return s.path("logs", component+".log") }

// Data holds what has to survive: etcd, the registry's store, containerd's content, volumes.
func (s State) Data(what string) string { return s.path("data", what) }

// LevelsOff is the file that opens the door of levels while it is there.
func (s State) LevelsOff() string { return s.path(control.LevelsOff) }

// LevelsAudit is the chain of audit records of levels.
func (s State) LevelsAudit() string { return s.path(control.LevelsAudit) }

func (s State) identityFile() string { return s.path("cluster.json") }

// folders are made at each start.
func (s State) folders() []string {
	return []string{s.PKI().Path, s.Components(), s.Run(), s.path("logs"), s.Data("etcd"), s.Data("store"), s.Data("containerd"), s.Data("snapshots"), s.Data("volumes"), s.Data("var-lib"), s.Data("var-log"), s.Data("volume-plugins"), s.Data("cni")}
}

// Identity reads the identity, or makes one in a new folder.
func (s State) Identity() (Identity, error) {
	data, err := os.ReadFile(s.identityFile())
	if errors.Is(err, fs.ErrNotExist) {
		random := make([]byte, 4)
		if _, err := rand.Read(random); err != nil {
			return Identity{}, err
		}
		id := Identity{Version: identityVersion, ID: hex.EncodeToString(random), Snapshotter: snapshotterWeft}
		return id, s.Save(id)
	}
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	if err := json.Unmarshal(data, &id); err != nil || id.ID == "" {
		return id, fmt.Errorf("%s is damaged: restore it, or remove the cluster with `weft down --purge`", s.identityFile())
	}
	if id.Version > identityVersion {
		return id, fmt.Errorf("%s was written by a newer weft (version %d, this program knows %d): use that version", s.identityFile(), id.Version, identityVersion)
	}
	return id, nil
}

// Save writes the identity.
func (s State) Save(id Identity) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(s.identityFile(), append(data, '\n'), 0o600)
}
