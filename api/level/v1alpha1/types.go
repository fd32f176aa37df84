// Package v1alpha1 are the resources of level.weft.dev/v1alpha1, which say what levels there are and who is cleared for which, and their
// CustomResourceDefinitions. Levels of objects are labels of the objects.
//
// +kubebuilder:object:generate=false
// +groupName=level.weft.dev
// +versionName=v1alpha1
package v1alpha1

import (
	"embed"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CRDs are the CustomResourceDefinitions, a file for each kind.
//
//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.22.0 crd:maxDescLen=0 paths=. output:crd:dir=crds
//go:embed crds/*.yaml
var CRDs embed.FS

// Names that objects and users see.
const (
	Group          = "level.weft.dev"
	Version        = "v1alpha1"
	LevelLabel     = "level.weft.dev/level"     // level and categories of an object: LEVEL or LEVEL.CATEGORY.CATEGORY
	TalkLabel      = "kubernetes.io/level"      // the same under the name that graded management on KubeSphere gave it
	WorkspaceLabel = "level.weft.dev/workspace" // the Workspace of a namespace
	KubeSphereWS   = "kubesphere.io/workspace"  // the same under KubeSphere's name
	RegistryName   = "cluster"                  // the one Registry of a cluster
)

// Registry is the order of levels, the categories and what holds where nothing is said. A cluster has one, named cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=registries,scope=Cluster,shortName=levels
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Levels",type=string,JSONPath=`.spec.levels[*].name`
// +kubebuilder:printcolumn:name="Door",type=string,JSONPath=`.spec.doors.authorizer`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'cluster'",message="the registry of a cluster is named cluster"
type Registry struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec RegistrySpec `json:"spec"`
}

// Mode says which way a level holds.
// +kubebuilder:validation:Enum=Authority;Confidentiality;Integrity
type Mode string

// The modes.
const (
	Authority       Mode = "Authority"       // high manages low, and not the reverse
	Confidentiality Mode = "Confidentiality" // no read up, no write down
	Integrity       Mode = "Integrity"       // no read down, no write up
)

// RegistrySpec is the order of levels.
//
// +kubebuilder:validation:XValidation:rule="!has(self.defaults) || !has(self.defaults.namespace) || !has(self.defaults.strict) || !self.defaults.strict",message="strict puts unlabelled namespaces on the top level; defaults.namespace must not be set with it"
type RegistrySpec struct {
	// Levels, the lowest first. A level may be put in anywhere: objects carry names, never positions.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +listType=map
	// +listMapKey=name
	Levels []Level `json:"levels"`
	// Categories are needs to know beside the levels.
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=name
	Categories []Category `json:"categories,omitempty"`
	// Mode of the levels, and of categories that name none.
	// +kubebuilder:default=Authority
	Mode Mode `json:"mode,omitempty"`
	// +kubebuilder:default={}
	Defaults Defaults `json:"defaults,omitempty"`
	// Groups says what several group clearances of one user mean. Any: each counts alone. Join: they are put together, which can
	// exceed every one of them.
	// +kubebuilder:validation:Enum=Any;Join
	// +kubebuilder:default=Any
	Groups string `json:"groups,omitempty"`
	// Exempt are users, by their exact names, that levels do not bind, beside the control plane's own and the nodes.
	// +kubebuilder:validation:MaxItems=256
	// +listType=set
	Exempt []string `json:"exempt,omitempty"`
	// +kubebuilder:default={}
	Doors Doors `json:"doors,omitempty"`
}

// Level is one level.
type Level struct {
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// Aliases are label values that mean this level as well, for example "1.5".
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	Aliases []string `json:"aliases,omitempty"`
}

// Category is one need to know.
type Category struct {
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// Mode of this category; that of the levels if empty.
	Mode Mode `json:"mode,omitempty"`
}

// Defaults hold where nothing is said.
type Defaults struct {
	// Namespace is the label of namespaces that carry none; the lowest level if empty.
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// Strict puts unlabelled and unknown namespaces on the top level with all categories.
	Strict bool `json:"strict,omitempty"`
	// Clearance of subjects that have none; the lowest level if empty.
	// +kubebuilder:validation:MaxLength=63
	Clearance string `json:"clearance,omitempty"`
}

// DoorSetting says what a door does with a request that levels deny.
// +kubebuilder:validation:Enum=Audit;Warn;Enforce
type DoorSetting string

// The settings of a door.
const (
	Audit   DoorSetting = "Audit"   // let through and write down
	Warn    DoorSetting = "Warn"    // let through, write down and tell the user
	Enforce DoorSetting = "Enforce" // deny
)

// Doors are the places where requests are judged.
type Doors struct {
	// +kubebuilder:default=Audit
	Authorizer DoorSetting `json:"authorizer,omitempty"`
}

// Clearance says up to which level subjects are cleared.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=clearances,scope=Cluster
// +kubebuilder:printcolumn:name="Label",type=string,JSONPath=`.spec.label`
// +kubebuilder:printcolumn:name="Expires",type=date,JSONPath=`.spec.expires`
type Clearance struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ClearanceSpec `json:"spec"`
}

// ClearanceSpec is a label and who holds it.
type ClearanceSpec struct {
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4096
	Subjects []Subject `json:"subjects"`
	// Label is LEVEL or LEVEL.CATEGORY.CATEGORY.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Label string `json:"label"`
	// Trusted subjects may write down (mode Confidentiality) and read down (mode Integrity).
	Trusted bool `json:"trusted,omitempty"`
	// Expires is when the clearance ends.
	Expires *metav1.Time `json:"expires,omitempty"`
}

// Subject is a user, a group or a service account.
//
// +kubebuilder:validation:XValidation:rule="self.kind == 'ServiceAccount' ? has(self.__namespace__) && size(self.__namespace__) > 0 : !has(self.__namespace__)",message="a ServiceAccount needs a namespace, users and groups have none"
type Subject struct {
	// +kubebuilder:validation:Enum=User;Group;ServiceAccount
	Kind string `json:"kind"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// Workspace groups namespaces, which name it by a label. Its level is the label of the object.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=workspaces,scope=Cluster
type Workspace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:default={}
	Spec WorkspaceSpec `json:"spec,omitempty"`
}

// WorkspaceSpec says who works in a workspace.
type WorkspaceSpec struct {
	// Members, with what they may do at most. Rights are given by roles of the cluster: this only takes away.
	// +kubebuilder:validation:MaxItems=4096
	Members []Member `json:"members,omitempty"`
}

// Member is a subject in a workspace.
type Member struct {
	Subject `json:",inline"`
	// Role: a Viewer changes nothing, an Operator no roles, bindings, quotas, network policies and namespaces, an Admin is not limited.
	// +kubebuilder:validation:Enum=Admin;Operator;Viewer
	Role string `json:"role"`
}
