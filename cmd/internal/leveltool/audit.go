package leveltool

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/reference"
)

const rbac = "rbac.authorization.k8s.io"

// surplus is a right that roles give and levels do not.
type surplus struct {
	Subject string   `json:"subject"`
	Binding string   `json:"binding"`
	Role    string   `json:"role"`
	Field   string   `json:"field"`
	Cause   string   `json:"cause"`
	Rights  []string `json:"rights"` // of those that the role gives, what goes too far
	Reasons []string `json:"reasons"`
}

func (t Tool) audit() *cobra.Command {
	var paths []string
	c := &cobra.Command{
		Use:   "audit",
		Short: "List the rights that roles give beyond levels, and show the records of denials",
		Long: "Audit looks at each role binding and lists the subjects that it gives more than they are cleared for. Doors that enforce deny such requests anyway; where\n" +
			"only generated policies hold levels nobody sees reads, and the bindings listed here are to be taken back. Without -f the cluster is read. It ends with 1 if there are any.",
		Example: `  weft level audit
  kubectl get registries,clearances,ns,clusterroles,clusterrolebindings,rolebindings -A -o yaml | weft level audit -f -
  weft level audit records --verify`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringArrayVarP(&paths, "file", "f", nil, "read objects from this file or `folder`, or from standard input (-), instead of the cluster; can be repeated")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		objects, err := t.objects(cmd.Context(), paths)
		if err != nil {
			return err
		}
		if len(paths) == 0 {
			if objects, err = t.withRights(cmd.Context(), objects); err != nil {
				return err
			}
		}
		exempt, err := t.exempt(cmd.Context(), paths)
		if err != nil {
			return err
		}
		s, err := t.compile(objects, exempt)
		if err != nil {
			return err
		}
		all, err := surplusRights(s, objects)
		if err != nil {
			return err
		}
		if err := t.Print().Result(all, func(p *output.Page) { surplusPage(p, all) }); err != nil {
			return err
		}
		if len(all) > 0 {
			return output.Exit{Code: output.Failed}
		}
		return nil
	}
	c.AddCommand(t.records())
	return c
}

// withRights puts the cluster's roles and bindings beside the objects, in the place of what is known of their labels alone.
func (t Tool) withRights(ctx context.Context, objects []manifest.Object) ([]manifest.Object, error) {
	config, err := t.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects = slices.DeleteFunc(slices.Clone(objects), func(o manifest.Object) bool { return o.GroupVersionKind().Group == rbac })
	for _, resource := range []string{"roles", "clusterroles", "rolebindings", "clusterrolebindings"} {
		at := client.Resource(schema.GroupVersionResource{Group: rbac, Version: "v1", Resource: resource})
		list := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return at.List(ctx, o) })
		err := list.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
			u, ok := o.(*unstructured.Unstructured)
			if !ok {
				return fmt.Errorf("%T instead of an object", o)
			}
			objects = append(objects, manifest.New(u, "cluster"))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", resource, err)
		}
	}
	return objects, nil
}

// surplusRights judges each subject of each binding by what its role holds.
func surplusRights(s *level.Snapshot, objects []manifest.Object) ([]surplus, error) {
	roles := map[[2]string]*unstructured.Unstructured{}
	for _, o := range objects {
		if gvk := o.GroupVersionKind(); gvk.Group == rbac && (gvk.Kind == "ClusterRole" || gvk.Kind == "Role") {
			roles[[2]string{o.GetNamespace(), o.GetName()}] = o.Unstructured
		}
	}
	look := reference.Lookup{Rules: func(namespace, name string) ([]reference.Rule, bool) {
		role := roles[[2]string{namespace, name}]
		if role == nil {
			return nil, false
		}
		return reference.RulesOf(role.Object), true
	}}
	// A requester that levels do not bind: what matters here is who gets the rights, not who gave them.
	who := reference.Requester{Subject: s.Subject(level.SubjectName{Kind: level.User, Name: "system:kube-controller-manager"})}
	all := []surplus{}
	for _, o := range objects {
		kind := map[string]string{"ClusterRoleBinding": "clusterrolebindings", "RoleBinding": "rolebindings"}[o.GetKind()]
		if o.GroupVersionKind().Group != rbac || kind == "" {
			continue
		}
		subjects, _, err := unstructured.NestedSlice(o.Object, "subjects")
		if err != nil {
			pos, _ := o.Position("subjects")
			return nil, &manifest.Error{Pos: pos, Object: place(o), Field: "subjects", Msg: "expected a list of subjects", Hint: "write each with kind and name"}
		}
		for i, subject := range subjects {
			found, err := reference.Judge(s, who, &reference.Object{Operation: reference.Create, Resource: level.Kind{Group: rbac, Resource: kind}, Namespace: o.GetNamespace(), Name: o.GetName(),
				New: map[string]any{"roleRef": o.Object["roleRef"], "subjects": []any{subject}}}, look)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", o.Identity(), err)
			}
			if len(found) == 0 {
				continue
			}
			entry := surplus{Subject: subjectOf(subject, o.GetNamespace()), Binding: place(o), Role: roleOf(o), Field: fmt.Sprintf("subjects[%d]", i), Cause: string(found[0].Cause)}
			for _, f := range found {
				if right := rightOf(f.Request); !slices.Contains(entry.Rights, right) {
					entry.Rights = append(entry.Rights, right)
				}
				if !slices.Contains(entry.Reasons, f.Reason) {
					entry.Reasons = append(entry.Reasons, f.Reason)
				}
			}
			all = append(all, entry)
		}
	}
	slices.SortStableFunc(all, func(a, b surplus) int {
		return strings.Compare(a.Subject+"\x00"+a.Binding, b.Subject+"\x00"+b.Binding)
	})
	return all, nil
}

// rightOf is a request as roles spell it: get secrets, create deployments.apps/scale, get secrets key.
func rightOf(r level.Request) string {
	text := r.Verb + " " + r.Resource
	if r.Group != "" {
		text += "." + r.Group
	}
	if r.Subresource != "" {
		text += "/" + r.Subresource
	}
	return strings.TrimSpace(text + " " + r.Name)
}

// shownRights is how many rights of a role are shown in a line.
const shownRights = 6

func subjectOf(subject any, namespace string) string {
	m, _ := subject.(map[string]any)
	word := func(key string) string { s, _ := m[key].(string); return s }
	n := level.SubjectName{Kind: level.SubjectKind(word("kind")), Name: word("name"), Namespace: word("namespace")}
	if n.Kind == level.ServiceAccount && n.Namespace == "" {
		n.Namespace = namespace
	}
	return n.String()
}

func place(o manifest.Object) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

func roleOf(o manifest.Object) string {
	kind, _, _ := unstructured.NestedString(o.Object, "roleRef", "kind")
	name, _, _ := unstructured.NestedString(o.Object, "roleRef", "name")
	return kind + " " + name
}

func surplusPage(p *output.Page, all []surplus) {
	if len(all) == 0 {
		p.Line("no binding gives anybody more than he is cleared for")
		return
	}
	for _, x := range all {
		p.Line("%s: %s gives it %s (%s)", p.Paint(output.Red, x.Subject), x.Binding, x.Role, x.Cause)
		rights := strings.Join(x.Rights[:min(len(x.Rights), shownRights)], ", ")
		if more := len(x.Rights) - shownRights; more > 0 {
			rights += fmt.Sprintf(" and %d more", more)
		}
		p.Line("  beyond levels: %s", rights)
		for i, reason := range x.Reasons {
			if i == 3 {
				p.Line("  and %d more", len(x.Reasons)-i)
				break
			}
			p.Line("  %s", reason)
		}
	}
	p.Line("%d rights beyond levels", len(all))
}
