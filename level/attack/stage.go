package attack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Stage is what attacks happen on.
type Stage struct {
	LevelLow, LevelHigh string // two labels, the second above the first
	LowSpace, HighSpace string
	Node                string

	admin       *rest.Config
	objects     dynamic.Interface
	tokens      map[Actor]string
	certificate string
}

// NewStage prepares nothing yet. The configuration is that of an administrator whom levels let do everything.
func NewStage(config *rest.Config, low, high string) (*Stage, error) {
	s := &Stage{LevelLow: low, LevelHigh: high, LowSpace: "weft-attack-low", HighSpace: "weft-attack-high", Node: "weft-attack-node", admin: rest.CopyConfig(config), tokens: map[Actor]string{}}
	s.admin.WarningHandler = rest.NoWarnings{}
	var err error
	if s.objects, err = dynamic.NewForConfig(s.admin); err != nil {
		return nil, err
	}
	s.certificate, err = requestOf("weft-admin", "weft:admins")
	return s, err
}

// requestOf is a certificate request for a name and a group, as the API wants it.
func requestOf(name, group string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: []string{group}}}, key)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

func (s *Stage) fill(text string) string {
	restart := "Always"
	if strings.Contains(text, "schedule") {
		restart = "Never"
	}
	return strings.NewReplacer("LEVELLOW", s.LevelLow, "LEVELHIGH", s.LevelHigh, "LOW", s.LowSpace, "HIGH", s.HighSpace, "NODE", s.Node, "CERTIFICATE", s.certificate, "RESTART", restart).Replace(text)
}

// stage are the objects, those that others need first.
const stage = `
{apiVersion: v1, kind: Namespace, metadata: {name: LOW, labels: {level.weft.dev/level: LEVELLOW}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: HIGH, labels: {level.weft.dev/level: LEVELHIGH}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: attacker, namespace: LOW}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: attacker, namespace: HIGH}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: raised, namespace: LOW}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: weft-attack-rights}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: [{kind: ServiceAccount, namespace: LOW, name: attacker}, {kind: ServiceAccount, namespace: HIGH, name: attacker}, {kind: ServiceAccount, namespace: LOW, name: raised}]}
---
{apiVersion: v1, kind: Node, metadata: {name: NODE, labels: {level.weft.dev/level: LEVELHIGH, kubernetes.io/hostname: NODE}}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: weft-attack-class, labels: {level.weft.dev/level: LEVELHIGH}}, provisioner: weft.dev/none}
---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: weft-attack-volume, labels: {level.weft.dev/level: LEVELHIGH}}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Mi}, hostPath: {path: /nowhere}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: weft-attack-secret, namespace: HIGH}, stringData: {a: b}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: weft-attack-config, namespace: HIGH}}
---
{apiVersion: v1, kind: Service, metadata: {name: weft-attack, namespace: HIGH}, spec: {ports: [{port: 80}], selector: {a: b}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: weft-attack-pod, namespace: HIGH}, spec: {automountServiceAccountToken: false, schedulerName: none, containers: [{name: c, image: none, resources: {requests: {cpu: 1m}}}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: weft-attack-pod, namespace: LOW}, spec: {automountServiceAccountToken: false, schedulerName: none, containers: [{name: c, image: none}]}}
---
{apiVersion: v1, kind: Secret, metadata: {name: weft-attack-own, namespace: LOW}}
---
{apiVersion: v1, kind: Secret, metadata: {name: weft-attack-raised, namespace: LOW, labels: {level.weft.dev/level: LEVELHIGH}}, stringData: {a: b}}
---
{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: weft-attack-request}, spec: {signerName: weft.dev/none, usages: [client auth], request: CERTIFICATE}}
`

// Clearance clears one account of the low namespace for the high level.
const clearance = `{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: weft-attack-raised}, spec: {label: LEVELHIGH, subjects: [{kind: ServiceAccount, namespace: LOW, name: raised}]}}`

// Objects are what the stage consists of; with clearance also the object that says who is cleared.
func (s *Stage) Objects(withClearance bool) ([]*unstructured.Unstructured, error) {
	text := stage
	if withClearance {
		text += "---\n" + clearance
	}
	var all []*unstructured.Unstructured
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(s.fill(text)), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := d.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the stage: %w", err)
		}
		if len(u.Object) > 0 {
			all = append(all, u)
		}
	}
}

func (s *Stage) of(u *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	if u.GetNamespace() == "" {
		return s.objects.Resource(plural)
	}
	return s.objects.Resource(plural).Namespace(u.GetNamespace())
}

// Prepare makes the objects and the accounts' tokens, while nothing enforces levels yet.
func (s *Stage) Prepare(ctx context.Context, withClearance bool) error {
	all, err := s.Objects(withClearance)
	if err != nil {
		return err
	}
	for _, u := range all {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // what was removed last time may still be going
			_, err := s.of(u).Create(ctx, u, metav1.CreateOptions{})
			if err == nil {
				break
			}
			if time.Now().After(deadline) || ctx.Err() != nil || !apierrors.IsAlreadyExists(err) && !apierrors.IsForbidden(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				return fmt.Errorf("the stage: %s %s: %w", u.GetKind(), u.GetName(), err)
			}
		}
	}
	clients, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return err
	}
	hour := int64(3600)
	for actor, account := range s.accounts() {
		t, err := clients.CoreV1().ServiceAccounts(account[0]).CreateToken(ctx, account[1], &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("the stage: a token for %s/%s: %w", account[0], account[1], err)
		}
		s.tokens[actor] = t.Status.Token
	}
	return nil
}

// accounts are the service accounts that actors are, by namespace and name.
func (s *Stage) accounts() map[Actor][2]string {
	return map[Actor][2]string{Low: {s.LowSpace, "attacker"}, High: {s.HighSpace, "attacker"}, Raised: {s.LowSpace, "raised"}}
}

// user is the name by which an API server knows who tries.
func (s *Stage) user(a *Attempt) string {
	switch a.As {
	case System:
		return "system:serviceaccount:kube-system:" + a.Controller
	case Node:
		return "system:node:" + s.Node
	}
	account := s.accounts()[a.As]
	return "system:serviceaccount:" + account[0] + ":" + account[1]
}

// clearances is where the one account is cleared for the high level.
func (s *Stage) clearances() (dynamic.ResourceInterface, *unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(s.fill(clearance)), &u.Object); err != nil {
		return nil, nil, fmt.Errorf("the stage: %w", err)
	}
	return s.of(u), u, nil
}

// revoke takes the account's clearance away.
func (s *Stage) revoke(ctx context.Context) error {
	at, u, err := s.clearances()
	if err != nil {
		return err
	}
	return at.Delete(ctx, u.GetName(), metav1.DeleteOptions{})
}

// clear gives it back.
func (s *Stage) clear(ctx context.Context) error {
	at, u, err := s.clearances()
	if err != nil {
		return err
	}
	_, err = at.Create(ctx, u, metav1.CreateOptions{})
	return err
}

// Remove removes the objects, as far as they are there.
func (s *Stage) Remove(ctx context.Context) error {
	all, err := s.Objects(true)
	if err != nil {
		return err
	}
	var errs []error
	now := int64(0)
	for i := len(all) - 1; i >= 0; i-- {
		err := s.of(all[i]).Delete(ctx, all[i].GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// config is how an actor reaches the cluster: with a token of its own, or as the administrator who acts as it.
func (s *Stage) config(a *Attempt) *rest.Config {
	c := rest.CopyConfig(s.admin)
	switch a.As {
	case System:
		c.Impersonate = rest.ImpersonationConfig{UserName: s.user(a), Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}}
	case Node:
		c.Impersonate = rest.ImpersonationConfig{UserName: s.user(a), Groups: []string{"system:nodes", "system:authenticated"}}
	default:
		c = rest.AnonymousClientConfig(c)
		c.BearerToken = s.tokens[a.As]
	}
	return c
}
