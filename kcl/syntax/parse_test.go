package syntax

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCorpus(t *testing.T) {
	root := os.Getenv("KCL_CORPUS")
	if root == "" {
		t.Skip("KCL_CORPUS names no folder with KCL files")
	}
	bad, all := 0, 0
	_ = filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || filepath.Ext(path) != ".k" {
			return nil
		}
		src, _ := os.ReadFile(path)
		f := Parse(path, string(src))
		all++
		_, e := os.Stat(filepath.Join(filepath.Dir(path), "stderr.golden"))
		if len(f.Errors) > 0 && e != nil {
			bad++
			line, col := f.Position(f.Errors[0].Start)
			t.Logf("%s:%d:%d: %s", path, line, col+1, f.Errors[0].Msg)
		}
		return nil
	})
	t.Logf("%d of %d files have unexpected errors", bad, all)
}
