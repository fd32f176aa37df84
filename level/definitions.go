package level

import (
	"github.com/weft-dev/weft/kube/manifest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// Definitions are the CustomResourceDefinitions of the kinds of levels.
func Definitions() ([]manifest.Object, error) {
	entries, err := api.CRDs.ReadDir("crds")
	if err != nil {
		return nil, err
	}
	var all []manifest.Object
	for _, e := range entries {
		data, err := api.CRDs.ReadFile("crds/" + e.Name())
		if err != nil {
			return nil, err
		}
		objects, err := manifest.Parse(e.Name(), data, manifest.Limits{})
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	return all, nil
}
