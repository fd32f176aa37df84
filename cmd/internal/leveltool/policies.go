package leveltool

import (
	"cmp"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/policy"
)

// made are policies as they are shown.
type made struct {
	Objects []map[string]any `json:"objects"`
	Gaps    []string         `json:"gaps"`
}

func (t Tool) policies() *cobra.Command {
	var static, setting string
	var guardians []string
	c := &cobra.Command{
		Use:   "policies PATH...",
		Short: "Print admission policies that hold levels with nothing of ours running",
		Long: "Policies makes ValidatingAdmissionPolicies, a MutatingAdmissionPolicy and cluster roles of the levels, clearances, namespaces and labelled objects in files. An API\n" +
			"server of 1.36 or newer enforces them by itself, also where nobody may set its flags. They are made of what there is now: make them anew when labels or clearances change.\n" +
			"What they cannot do is told on standard error. With --static the policies that guard all these are written for the API server's folder of static manifests.",
		Example: `  kubectl get registries,clearances,namespaces,nodes,secrets -A -o yaml > levels.yaml
  weft level policies levels.yaml | kubectl apply --server-side -f -
  weft level policies levels/ --setting Enforce --static /etc/kubernetes/admission/ValidatingAdmissionPolicy`,
		Args: cobra.MinimumNArgs(1),
	}
	c.Flags().StringVar(&setting, "setting", "", "Audit, Warn or Enforce; by default what the Registry says of the door for `admission`")
	c.Flags().StringArrayVar(&guardians, "guardian", nil, "`user` that may change the policies and the objects of levels; can be repeated")
	c.Flags().StringVar(&static, "static", "", "write the guarding policies into this `folder`")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s := api.DoorSetting(setting)
		if s != "" && s != api.Audit && s != api.Warn && s != api.Enforce {
			return output.Advise(output.Usagef("there is no setting %q", setting), "Use Audit, Warn or Enforce.")
		}
		objects, err := t.read(cmd.Context(), args)
		if err != nil {
			return err
		}
		loaded, err := level.Load(objects)
		if err != nil {
			return err
		}
		found, err := policy.Compile(loaded.Model, policy.Options{Now: time.Now(), Guardians: guardians, Setting: s})
		if err != nil {
			return err
		}
		if static != "" {
			if err := writeStatic(static, found.Static); err != nil {
				return err
			}
			t.Print().Remark("%s holds the guarding policies; an API server follows its changes", static)
		}
		result := made{Gaps: found.Gaps}
		for _, u := range found.Objects {
			result.Objects = append(result.Objects, u.Object)
		}
		for _, gap := range found.Gaps {
			t.Print().Remark("%s", gap)
		}
		return t.Print().Result(result, func(p *output.Page) {
			for _, u := range found.Objects {
				data, err := yaml.Marshal(u.Object)
				if err != nil {
					continue // maps of texts and lists always can be written
				}
				p.Line("---\n%s", data)
			}
		})
	}
	return c
}

// writeStatic writes the guarding policies in one file, which is there as a whole or not at all.
func writeStatic(folder string, objects []*unstructured.Unstructured) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	var all []byte
	for _, u := range objects {
		data, err := yaml.Marshal(u.Object)
		if err != nil {
			return err
		}
		all = append(append(all, "---\n"...), data...)
	}
	f, err := os.CreateTemp(folder, ".weft-levels-*")
	if err != nil {
		return err
	}
	_, err = f.Write(all)
	err = cmp.Or(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(folder, "weft-levels.yaml"))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to tell
	}
	return err
}
