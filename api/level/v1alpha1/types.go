// Package v1alpha1 are the resources of level.weft.dev/v1alpha1, which say what levels there are and who is cleared for which, and their
// CustomResourceDefinitions. Levels of objects are labels of the objects.
//
// +kubebuilder:object:generate=false
// +groupName=level.weft.dev
// +versionName=v1alpha1
package v1alpha1

import (
	"embed"

	"k8s.io/apimachinery/pkg/api/resource"
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

	ExemptAnnotation = "level.weft.dev/exempt" // of a Door: the users of the installation's own programs, whom it does not bind, as a JSON list
)

// Registry is the order of levels, the categories and what holds where nothing is said. A cluster has one, named cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=registries,scope=Cluster,shortName=levels
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Lowest",type=string,JSONPath=`.spec.levels[0].name`
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
	// Placement says on which nodes pods run. AtMost: on nodes that are not above them. AtLeast: on nodes that are not below them. Equal: on
	// nodes of their own level.
	// +kubebuilder:default=AtMost
	Placement Placement `json:"placement,omitempty"`
	// References are fields of further kinds that name objects, beside those that are recognized by their form.
	// +kubebuilder:validation:MaxItems=256
	References []Reference `json:"references,omitempty"`
}

// Placement says which nodes pods run on.
// +kubebuilder:validation:Enum=AtMost;AtLeast;Equal
type Placement string

// The placements.
const (
	AtMost  Placement = "AtMost"  // as in the talk: low pods do not reach high nodes
	AtLeast Placement = "AtLeast" // what is high stays on nodes that are cleared for it
	Equal   Placement = "Equal"
)

// Reference is a field of a kind that names an object of another kind in the same namespace.
type Reference struct {
	// Group and Resource are the kind that has the field, as requests name it.
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Resource string `json:"resource"`
	// Path of the field: spec.credentials.name; lists are walked through.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Path string `json:"path"`
	To   Target `json:"to"`
}

// Target is a kind that is named.
type Target struct {
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Resource string `json:"resource"`
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
	// Authorizer is the one in the process of the embedded API server.
	// +kubebuilder:default=Audit
	Authorizer DoorSetting `json:"authorizer,omitempty"`
	// Webhook is the authorization webhook, for API servers of others.
	// +kubebuilder:default=Audit
	Webhook DoorSetting `json:"webhook,omitempty"`
	// Admission judges what objects refer to when they are written.
	// +kubebuilder:default=Audit
	Admission DoorSetting `json:"admission,omitempty"`
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
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="CPU",type=string,JSONPath=`.status.used.cpu`
// +kubebuilder:printcolumn:name="CPU ceiling",type=string,JSONPath=`.spec.ceiling.cpu`
// +kubebuilder:printcolumn:name="Memory",type=string,JSONPath=`.status.used.memory`
// +kubebuilder:printcolumn:name="Memory ceiling",type=string,JSONPath=`.spec.ceiling.memory`
// +kubebuilder:printcolumn:name="Pods",type=string,JSONPath=`.status.used.pods`
// +kubebuilder:printcolumn:name="Pods ceiling",type=string,JSONPath=`.spec.ceiling.pods`
type Workspace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:default={}
	Spec WorkspaceSpec `json:"spec,omitempty"`

	Status WorkspaceStatus `json:"status,omitempty"`
}

// WorkspaceStatus is what the pods of a workspace take.
type WorkspaceStatus struct {
	// Namespaces is how many of its namespaces hold pods.
	Namespaces int32 `json:"namespaces,omitempty"`
	// Used is what these pods request.
	Used Amount `json:"used,omitempty"`
	// Reserved are pods that were let through a moment ago and that not everybody has seen yet.
	Reserved []Reservation `json:"reserved,omitempty"`
}

// Reservation is a pod that was let through.
type Reservation struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// CPU is in thousandths of a processor, Memory in bytes.
	CPU    int64 `json:"cpu,omitempty"`
	Memory int64 `json:"memory,omitempty"`
	// Until is when it is forgotten if the pod does not appear.
	Until metav1.Time `json:"until"`
}

// Amount is what pods request, or may.
type Amount struct {
	CPU    *resource.Quantity `json:"cpu,omitempty"`
	Memory *resource.Quantity `json:"memory,omitempty"`
	Pods   *resource.Quantity `json:"pods,omitempty"`
}

// WorkspaceSpec says who works in a workspace.
type WorkspaceSpec struct {
	// Members, with what they may do at most. Rights are given by roles of the cluster: this only takes away.
	// +kubebuilder:validation:MaxItems=4096
	Members []Member `json:"members,omitempty"`
	// Ceiling is how much CPU and memory the pods of all its namespaces may request together, and how many they may be. Pods that have ended
	// do not count.
	Ceiling Amount `json:"ceiling,omitempty"`
}

// Member is a subject in a workspace.
type Member struct {
	Subject `json:",inline"`
	// Role: a Viewer changes nothing, an Operator no roles, bindings, quotas, network policies and namespaces, an Admin is not limited.
	// +kubebuilder:validation:Enum=Admin;Operator;Viewer
	Role string `json:"role"`
}

// Door is a door as it reports itself: what it judges by, how well it is, and whom it denied. Doors write their own; nobody else does.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=doors,scope=Cluster
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.report.kind`
// +kubebuilder:printcolumn:name="Setting",type=string,JSONPath=`.report.setting`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.report.state`
// +kubebuilder:printcolumn:name="Renewed",type=date,JSONPath=`.report.renewed`
type Door struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Report DoorReport `json:"report"`
}

// DoorState is how well a door is.
type DoorState string

// The states of doors.
const (
	DoorReady DoorState = "Ready"
	DoorStale DoorState = "Stale" // it lost its watch, and denies whatever is not on the lowest level
	DoorOff   DoorState = "Off"   // somebody opened it by `weft level off`
)

// DoorReport is what a door tells about itself.
type DoorReport struct {
	// Kind is Authorizer, Webhook or Admission.
	Kind    string      `json:"kind"`
	Setting DoorSetting `json:"setting"`
	State   DoorState   `json:"state"`
	// Renewed is when the door told this. A door that has not told anything for 15 seconds is down.
	Renewed metav1.MicroTime `json:"renewed"`
	// Registry is the resourceVersion of the Registry that it judges by.
	Registry string `json:"registry,omitempty"`
	// Regrades are the re-gradings that it knows, each with its phase: NAME/PHASE.
	Regrades []string `json:"regrades,omitempty"`
	// Problems are objects that it cannot read, and watches that do not work.
	Problems []string `json:"problems,omitempty"`
	// Denied is whom it denied what, or would have, since it started, of what levels are against still.
	Denied []Denial `json:"denied,omitempty"`
	// MoreDenied is how many such requests are not among Denied, because they are too many.
	MoreDenied int64 `json:"moreDenied,omitempty"`
	// Audit is the last record of its chain.
	Audit *AuditHead `json:"audit,omitempty"`
}

// Denial is requests of one kind of a user that levels deny.
type Denial struct {
	User        string `json:"user"`
	Verb        string `json:"verb"`
	Group       string `json:"group,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	// Field is where the object that was written reaches too far; empty if the request itself does.
	Field string `json:"field,omitempty"`
	Cause string `json:"cause"`
	// Component says that the user is a component of the cluster: while there is one, doors must not enforce.
	Component bool        `json:"component,omitempty"`
	Count     int64       `json:"count"`
	First     metav1.Time `json:"first"`
	Last      metav1.Time `json:"last"`
}

// AuditHead is the last record of a chain of audit records.
type AuditHead struct {
	Sequence int64  `json:"sequence"`
	Hash     string `json:"hash"`
}

// Regrade is a change of levels that is under way: what is frozen, changed step by step, and released. `weft level regrade` makes and ends it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=regrades,scope=Cluster
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.spec.phase`
type Regrade struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec RegradeSpec `json:"spec"`
}

// RegradePhase is how far a re-grading is.
// +kubebuilder:validation:Enum=Freezing;Labelling;Releasing
type RegradePhase string

// The phases. Until Labelling nothing was changed, and the re-grading can be undone by removing it; from Labelling on it is finished.
const (
	Freezing  RegradePhase = "Freezing"
	Labelling RegradePhase = "Labelling"
	Releasing RegradePhase = "Releasing"
)

// RegradeSpec is the steps of a re-grading.
type RegradeSpec struct {
	Phase RegradePhase `json:"phase"`
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4096
	Steps []RegradeStep `json:"steps"`
}

// RegradeStep is one label that is changed.
type RegradeStep struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// Key is the label's name.
	Key string `json:"key"`
	// From is the label's value before, empty if there was none.
	From string `json:"from,omitempty"`
	To   string `json:"to"`
}
