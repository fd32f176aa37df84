package stack

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admission "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	kubetest "github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

const root = "../.."

// world is a copy of the example, a home, and a cluster without nodes.
type world struct {
	t      *testing.T
	weft   string
	dir    string
	home   string
	config string
	client kubernetes.Interface
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := kubetest.Start(t)
	client, err := kubernetes.NewForConfig(server.Config)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, weft: filepath.Join(t.TempDir(), "weft"), dir: filepath.Join(t.TempDir(), "greeter"), home: t.TempDir(), config: server.Kubeconfig, client: client}
	if out, err := exec.Command("go", "build", "-o", w.weft, filepath.Join(root, "cmd/weft")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.CopyFS(w.dir, os.DirFS(filepath.Join(root, "examples/environments"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.dir, "weft.yaml")); err != nil { // nothing is built: pods do not run here
		t.Fatal(err)
	}
	return w
}

// run runs the program and returns its exit code and what it printed.
func (w *world) run(args ...string) (int, string, string) {
	w.t.Helper()
	cmd := exec.Command(w.weft, args...)
	cmd.Dir = w.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HOME=") && !strings.HasPrefix(v, "KUBECONFIG=") && !strings.HasPrefix(v, "XDG_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+w.home, "KUSION_HOME="+filepath.Join(w.home, "kusion"))
	if os.Getenv("WEFT_NODE") == "" {
		node, err := filepath.Abs(filepath.Join(root, "bin/weft-node"))
		if err != nil {
			w.t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "WEFT_NODE="+node)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// do runs the program with a cluster and the folder of the states; it must end with a code and print something.
func (w *world) do(code int, want string, args ...string) string {
	w.t.Helper()
	got, out, errs := w.run(append(args, "--kubeconfig", w.config)...)
	if got != code || !strings.Contains(out+errs, want) {
		w.t.Fatalf("weft %s: exit code %d (want %d)\n%s%s\nwant %s", strings.Join(args, " "), got, code, out, errs, want)
	}
	return out
}

var image = []string{"--image", "greeter=example.invalid/greeter:1"}

func (w *world) kusion(code int, want, verb, stack string, more ...string) string {
	w.t.Helper()
	args := append([]string{"kusion"}, strings.Fields(verb)...)
	args = append(args, "-w", filepath.Join(w.dir, stack))
	return w.do(code, want, append(args, more...)...)
}

func (w *world) apply(code int, want, stack string) string {
	w.t.Helper()
	return w.kusion(code, want, "apply", stack, append(image, "--yes", "--watch=false")...)
}

func (w *world) edit(file, before, after string) {
	w.t.Helper()
	path := filepath.Join(w.dir, file)
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), before) {
		w.t.Fatalf("%s has no %q: %v", file, before, err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), before, after)), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// greeting is what the stack's Deployment says, and how often.
func (w *world) greeting(stack string) string {
	w.t.Helper()
	d, err := w.client.AppsV1().Deployments("greeter-"+stack).Get(context.Background(), "greeter-"+stack+"-greeter", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	c := d.Spec.Template.Spec.Containers[0]
	for _, e := range c.Env {
		if e.Name == "GREETING" {
			return fmt.Sprintf("%d times %s by %s", *d.Spec.Replicas, e.Value, c.Image)
		}
	}
	return "nothing"
}

func (w *world) release(project string, revision int) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.home, "kusion/releases", project, "default", fmt.Sprintf("%d.yaml", revision)))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// TestEnvironments applies one project to three environments, changes what runs outside and inside, goes back, and takes it away.
func TestEnvironments(t *testing.T) {
	w := newWorld(t)
	for stack, want := range map[string]string{"dev": "1 times hi", "stage": "2 times hello", "prod": "3 times hello"} {
		w.kusion(0, "apps/v1:Deployment:greeter-"+stack+":greeter-"+stack+"-greeter", "preview", stack, image...)
		w.apply(0, "Apply complete! Resources: ", stack)
		if got := w.greeting(stack); got != want+" by example.invalid/greeter:1" {
			t.Errorf("%s runs %s", stack, got)
		}
		w.apply(0, "All resources are reconciled. No diff found", stack)
	}
	w.kusion(1, "cannot forward port 9: 0 of the stack's Services have it", "apply --yes --port-forward 9", "dev", image...)
	w.kusion(1, "must be between 1 and 65535", "apply --yes --port-forward 65536", "dev", image...)
	w.kusion(1, "forward port 8080 to Service greeter-dev-greeter-private", "apply --yes --port-forward 8080", "dev", image...) // its pods do not run
	secret, err := w.client.CoreV1().Secrets("greeter-prod").Get(context.Background(), "session", metav1.GetOptions{})
	if err != nil || len(secret.Data["token"]) != 54 {
		t.Fatalf("the made-up secret is %q, %v", secret.Data["token"], err)
	}
	w.hides(string(secret.Data["token"]))

	// something is changed outside: it is told, and mended
	if _, err := w.client.AppsV1().Deployments("greeter-prod").Patch(context.Background(), "greeter-prod-greeter", types.MergePatchType, []byte(`{"spec":{"replicas":7}}`), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	w.do(2, "spec.replicas", append([]string{"drift", filepath.Join(w.dir, "prod"), "--detailed-exitcode"}, image...)...)
	var preview struct {
		ChangeSteps map[string]struct {
			Action  string
			Changes []struct{ Path string }
		}
	}
	out := w.kusion(0, "", "preview -o json", "prod", image...)
	if err := json.Unmarshal([]byte(out), &preview); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := preview.ChangeSteps["apps/v1:Deployment:greeter-prod:greeter-prod-greeter"]; s.Action != "Update" || len(s.Changes) != 1 || s.Changes[0].Path != "spec.replicas" {
		t.Errorf("the preview says %+v", s)
	}
	w.kusion(0, "All resources are reconciled", "preview --ignore-fields spec.replicas", "prod", image...)
	w.apply(0, "1 updated", "prod")
	if got := w.greeting("prod"); !strings.HasPrefix(got, "3 times") {
		t.Errorf("after mending it is %s", got)
	}

	// the program is changed, and taken back
	w.edit("dev/main.k", `GREETING = "hi"`, `GREETING = "howdy"`)
	w.apply(0, "1 updated", "dev")
	if got := w.greeting("dev"); !strings.HasPrefix(got, "1 times howdy") {
		t.Errorf("after the change it is %s", got)
	}
	revision := w.revisionOf("dev")
	w.kusion(0, "Rollback complete!", "release rollback --yes --watch=false --revision "+revision, "dev")
	if got := w.greeting("dev"); !strings.HasPrefix(got, "1 times hi") {
		t.Errorf("after going back it is %s", got)
	}
	w.do(0, "greeter-dev-greeter", append([]string{"plan", filepath.Join(w.dir, "dev")}, image...)...) // the program still wants howdy

	for _, stack := range []string{"dev", "stage", "prod"} {
		w.kusion(0, "Destroy complete!", "destroy --yes", stack, "--allow-delete", "Namespace")
		for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			_, err := w.client.CoreV1().Namespaces().Get(context.Background(), "greeter-"+stack, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				break
			}
			if time.Since(begun) > 2*time.Minute {
				t.Fatalf("the namespace of %s is still there: %v", stack, err)
			}
		}
		w.kusion(0, "No managed resources to destroy", "destroy --yes", stack)
	}
}

// TestSecretsOfTheCluster takes the value of a stack's secret from another Secret of the cluster: a missing one stops the plan, a changed
// one is planned as a change, and no file holds the value.
func TestSecretsOfTheCluster(t *testing.T) {
	w := newWorld(t)
	workspace := filepath.Join(w.home, "vaulted.yaml")
	if err := os.WriteFile(workspace, []byte("secretStore: {provider: {kubernetes: {namespace: vault}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := w.run("kusion", "workspace", "create", "vaulted", "-f", workspace); code != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	w.edit("project.yaml", "name: greeter", "name: vaulted")
	w.edit("prod/stack.yaml", "namespace: greeter-prod", "namespace: vaulted")
	w.edit("prod/main.k", `type: "token"`, "type: \"external\"\n                data: {\"token\": \"ref://session/token\"}")
	args := append([]string{filepath.Join(w.dir, "prod"), "--workspace", "vaulted"}, image...)
	w.do(1, "there is no Secret vault/session with the key token", append([]string{"plan"}, args...)...)
	ctx := context.Background()
	if _, err := w.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "vault"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	kept := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "session"}, StringData: map[string]string{"token": "hunter22-of-old"}}
	kept, err := w.client.CoreV1().Secrets("vault").Create(ctx, kept, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	used := func() string {
		t.Helper()
		got, err := w.client.CoreV1().Secrets("vaulted").Get(ctx, "session", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(got.Data["token"])
	}
	apply := append([]string{"apply", "--yes", "--wait", "none"}, args...)
	w.do(0, "created", apply...)
	if used() != "hunter22-of-old" {
		t.Errorf("the stack's Secret holds %q", used())
	}
	w.do(0, "Nothing to do", append([]string{"plan", "--detailed-exitcode"}, args...)...)
	kept.StringData = map[string]string{"token": "hunter33-of-new"}
	if _, err := w.client.CoreV1().Secrets("vault").Update(ctx, kept, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	out := w.do(2, "update", append([]string{"plan", "--detailed-exitcode"}, args...)...)
	if strings.Contains(out, "hunter") {
		t.Errorf("the plan shows the secret: %s", out)
	}
	w.do(0, "1 updated", apply...)
	if used() != "hunter33-of-new" {
		t.Errorf("after the change the stack's Secret holds %q", used())
	}
	w.hides("hunter22-of-old")
	w.hides("hunter33-of-new")
}

// revisionOf is the number of a stack's first release.
func (w *world) revisionOf(stack string) string {
	w.t.Helper()
	for i := 1; i < 20; i++ {
		if strings.Contains(w.release("greeter", i), "\nstack: "+stack+"\n") {
			return fmt.Sprint(i)
		}
	}
	w.t.Fatalf("%s has no release", stack)
	return ""
}

// hides looks for a secret in every file of the home: releases, states, plans.
func (w *world) hides(secret string) {
	w.t.Helper()
	err := filepath.WalkDir(w.home, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(text, []byte(secret)) || bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString([]byte(secret)))) {
			w.t.Errorf("%s holds the secret", path)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestFailedApply refuses one object half way: what was made is in the release and in the state, the next apply makes the rest, and
// nothing is made twice.
func TestFailedApply(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	refuse := &admission.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "refuse-services"}, Spec: admission.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admission.MatchResources{ResourceRules: []admission.NamedRuleWithOperations{{RuleWithOperations: admission.RuleWithOperations{
			Operations: []admission.OperationType{admission.Create}, Rule: admission.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}}}}}},
		Validations: []admission.Validation{{Expression: "request.dryRun || !object.metadata.namespace.startsWith('refused')", Message: "not today"}},
	}}
	if _, err := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, refuse, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &admission.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "refuse-services"}, Spec: admission.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: "refuse-services", ValidationActions: []admission.ValidationAction{admission.Deny}}}
	if _, err := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.edit("project.yaml", "name: greeter", "name: refused")
	w.edit("dev/stack.yaml", "namespace: greeter-dev", "namespace: refused")
	w.awaitRefusal()
	w.apply(1, "not today", "dev")
	release := w.release("refused", 1)
	if !strings.Contains(release, "phase: failed\n") || !strings.Contains(stateOf(release), "v1:Service:refused:refused-dev-greeter-private") || strings.Contains(stateOf(release), "Deployment") {
		t.Errorf("the release after the failure is\n%s", release)
	}
	before, err := w.client.CoreV1().Services("refused").Get(ctx, "refused-dev-greeter-private", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, "refuse-services", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		code, out, errs := w.run(append([]string{"kusion", "apply", "-w", filepath.Join(w.dir, "dev"), "--yes", "--watch=false", "--kubeconfig", w.config}, image...)...)
		if code == 0 && strings.Contains(out, "1 created, 0 updated, 0 deleted") {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("the next apply ends with %d\n%s%s", code, out, errs)
		}
	}
	after, err := w.client.CoreV1().Services("refused").Get(ctx, "refused-dev-greeter-private", metav1.GetOptions{})
	if err != nil || after.UID != before.UID {
		t.Errorf("the Service was made twice: %v", err)
	}
}

// stateOf is the part of a release that tells what exists.
func stateOf(release string) string {
	_, state, _ := strings.Cut(release, "\nstate:\n")
	return state
}

// awaitRefusal waits until the policy is in force.
func (w *world) awaitRefusal() {
	w.t.Helper()
	ctx := context.Background()
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "refused-probe"}}
	if _, err := w.client.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	for i := range 300 {
		d := probe(fmt.Sprintf("probe-%d", i))
		if _, err := w.client.AppsV1().Deployments("refused-probe").Create(ctx, d, metav1.CreateOptions{}); err != nil && strings.Contains(err.Error(), "not today") {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatal("the policy is not in force after 30 seconds")
}
