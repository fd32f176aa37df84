package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is derived of the table is derived of this table.
func TestCurrent(t *testing.T) {
	files, err := generated()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../../..", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the table says; run `go generate ./logging/plugin` (%v)", name, err)
		}
	}
	for _, folder := range []string{"api/fluentbit/v1alpha2/crds", "api/fluentd/v1alpha1/crds"} {
		entries, err := os.ReadDir(filepath.Join("../../..", folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if files[folder+"/"+e.Name()] == nil || !strings.HasSuffix(e.Name(), ".yaml") {
				t.Errorf("%s/%s is not made from the table", folder, e.Name())
			}
		}
	}
}
