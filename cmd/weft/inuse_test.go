package main

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestDigestsOfObjects(t *testing.T) {
	one, two, three, four := digest.FromString("1"), digest.FromString("2"), digest.SHA512.FromString("3"), digest.FromString("4")
	text := `{"metadata": {"annotations": {"image": "not/an/image:tag", "note": "x@` + string(digest.FromString("note")) + `"}},
		"spec": {"initContainers": [{"image": "127.0.0.1:5000/app@` + string(one) + `"}], "containers": [{"name": "c", "image": "app:v1"}],
			"volumes": [{"image": {"reference": "127.0.0.1:5000/data:v1@` + string(three) + `"}}], "template": {"spec": {"containers": [{"image": "x@sha256:short"}]}}},
		"status": {"containerStatuses": [{"image": "app:v1", "imageID": "127.0.0.1:5000/app@` + string(two) + `"}, {"imageID": "` + string(four) + `"}]}}`
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	found := map[digest.Digest]bool{}
	findDigests(object, found)
	want := []digest.Digest{one, two, three, four}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
