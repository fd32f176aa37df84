package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func released(name, path, uid string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{annProvisionedBy: Provisioner}},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}},
			ClaimRef:               &corev1.ObjectReference{UID: types.UID(uid)},
		},
	}
}

// A volume is an object that users may write: no path of it leads to the removal of anything but a folder of ours.
func TestOnlyFoldersOfOursAreRemoved(t *testing.T) {
	c := &Controller{Folder: "/run/weft/data/volumes"}
	for _, pv := range []*corev1.PersistentVolume{
		released("pvc-1", "/", "1"),
		released("pvc-1", "/etc", "1"),
		released("pvc-1", "/run/weft/data/volumes/../../pki", "1"),
		released("pvc-1", "/run/weft/data/volumes/pvc-2", "1"),
		released("pvc-1", "/run/weft/data/volumes/pvc-1", "2"),
		released("..", "/run/weft/data/volumes/..", "1"),
		released("pvc-..", "/run/weft/data/volumes/pvc-..", ".."),
		released("other", "/run/weft/data/volumes/other", "1"),
		released("pvc-", "/run/weft/data/volumes/pvc-", ""),
		{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1"}},
	} {
		if name, ok := c.folderOf(pv); ok {
			t.Errorf("%s with path %v: %q would be removed", pv.Name, pv.Spec.HostPath, name)
		}
	}
	if name, ok := c.folderOf(released("pvc-1", "/run/weft/data/volumes/pvc-1", "1")); !ok || name != "pvc-1" {
		t.Errorf("our own folder: %q, %v", name, ok)
	}
}

// Symbolic links that a pod has left in its volume, or put in place of it, are removed and not followed.
func TestRemovalFollowsNoLinks(t *testing.T) {
	outside := t.TempDir()
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c := &Controller{Folder: folder, root: root}
	if err := os.MkdirAll(filepath.Join(folder, "pvc-1", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"pvc-1/deep/link", "pvc-2"} {
		if err := os.Symlink(outside, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	// What an interrupted removal has left does not stand in the way.
	if err := os.MkdirAll(filepath.Join(folder, ".removed-pvc-1", "rest"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pvc-1", "pvc-2", "pvc-1"} {
		if err := c.remove(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error("a file outside was removed through a link")
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestRefusals(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for want, spec := range map[string]corev1.PersistentVolumeClaimSpec{
		"Block":      {VolumeMode: &block},
		"selector":   {Selector: &metav1.LabelSelector{}},
		"dataSource": {DataSource: &corev1.TypedLocalObjectReference{}},
	} {
		if got := refusal(&corev1.PersistentVolumeClaim{Spec: spec}); !strings.Contains(got, want) {
			t.Errorf("%s: %q", want, got)
		}
	}
	if got := refusal(&corev1.PersistentVolumeClaim{}); got != "" {
		t.Error(got)
	}
	if _, err := volumeName(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "../x"}}); err == nil {
		t.Error("a path as uid was accepted")
	}
}
