package controlplane

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

const (
	bootstrapHook    = "weft/bootstrap"
	bootstrapWorkers = 8
	// bootstrapPatience is how long the first write may fail before the start is given up.
	bootstrapPatience = 30 * time.Second
)

// replaceBootstrapHooks exchanges upstream's two hooks that sleep a second before their first try and then create 141
// objects one after another. Ours creates the same objects at once; on existing data, where there may be something to
// reconcile, upstream's own hook runs behind the readiness of the server.
func replaceBootstrapHooks(generic *genericapiserver.Config) error {
	generic.DisabledPostStartHooks.Insert(rbacrest.PostStartHookName, schedulingrest.PostStartHookName)
	return generic.AddPostStartHook(bootstrapHook, func(h genericapiserver.PostStartHookContext) error {
		config := rest.CopyConfig(h.LoopbackClientConfig)
		config.QPS = -1
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		existing, err := bootstrap(h, client)
		if err != nil {
			return fmt.Errorf("creating the built-in roles and priority classes: %w", err)
		}
		if existing {
			go reconcile(h)
		}
		return nil
	})
}

// policy is upstream's own list of roles and bindings.
func policy() *rbacrest.PolicyData {
	return &rbacrest.PolicyData{
		ClusterRoles:               append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...),
		ClusterRoleBindings:        append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...),
		Roles:                      bootstrappolicy.NamespaceRoles(),
		RoleBindings:               bootstrappolicy.NamespaceRoleBindings(),
		ClusterRolesToAggregate:    bootstrappolicy.ClusterRolesToAggregate(),
		ClusterRoleBindingsToSplit: bootstrappolicy.ClusterRoleBindingsToSplit(),
	}
}

// ownBindings give the administrator in the kubeconfig and the API server's own client for kubelets their rights.
func ownBindings() []rbacv1.ClusterRoleBinding {
	bind := func(name, role, group string) rbacv1.ClusterRoleBinding {
		return rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}},
		}
	}
	return []rbacv1.ClusterRoleBinding{
		bind("weft:admins", "cluster-admin", AdminGroup),
		bind("weft:kubelet-api-admins", "system:kubelet-api-admin", "weft:kubelet-api-admins"),
	}
}

// bootstrap creates what is missing and tells whether some of it existed before.
func bootstrap(ctx context.Context, client kubernetes.Interface) (existing bool, err error) {
	p := policy()
	if existing, err = first(ctx, client, &p.ClusterRoles[0]); err != nil {
		return false, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(bootstrapWorkers)
	create := func(f func() error) {
		group.Go(func() error {
			if err := f(); err != nil && !apierrors.IsAlreadyExists(err) {
				return err
			}
			return nil
		})
	}
	options := metav1.CreateOptions{}
	for _, binding := range ownBindings() {
		create(func() error {
			_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &binding, options)
			return err
		})
	}
	if existing {
		return true, group.Wait()
	}
	for _, role := range p.ClusterRoles[1:] {
		create(func() error { _, err := client.RbacV1().ClusterRoles().Create(ctx, &role, options); return err })
	}
	for _, binding := range p.ClusterRoleBindings {
		create(func() error {
			_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &binding, options)
			return err
		})
	}
	for namespace := range p.Roles {
		create(func() error { return namespaced(ctx, client, p, namespace) })
	}
	for _, class := range schedulingv1.SystemPriorityClasses() {
		create(func() error {
			_, err := client.SchedulingV1().PriorityClasses().Create(ctx, class, options)
			return err
		})
	}
	return false, group.Wait()
}

// first creates one role, with patience: right after the start the server may still refuse writes.
func first(ctx context.Context, client kubernetes.Interface, role *rbacv1.ClusterRole) (existing bool, err error) {
	deadline := time.Now().Add(bootstrapPatience)
	for {
		_, err = client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) {
			return err != nil, nil
		}
		if time.Now().After(deadline) {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// namespaced creates the roles and bindings of one system namespace, which may not exist yet.
func namespaced(ctx context.Context, client kubernetes.Interface, p *rbacrest.PolicyData, namespace string) error {
	options := metav1.CreateOptions{}
	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, options)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for _, role := range p.Roles[namespace] {
		if _, err := client.RbacV1().Roles(namespace).Create(ctx, &role, options); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	for _, binding := range p.RoleBindings[namespace] {
		if _, err := client.RbacV1().RoleBindings(namespace).Create(ctx, &binding, options); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// reconcile runs upstream's hooks, which repair what an upgrade or a user changed.
func reconcile(h genericapiserver.PostStartHookContext) {
	hooks := []genericapiserver.PostStartHookFunc{policy().EnsureRBACPolicy()}
	if _, hook, err := (schedulingrest.RESTStorageProvider{}).PostStartHook(); err == nil {
		hooks = append(hooks, hook)
	}
	for _, hook := range hooks {
		if err := hook(h); err != nil && h.Err() == nil {
			klog.ErrorS(err, "reconciling the built-in roles and priority classes")
		}
	}
}
