package level

import (
	"time"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// SubjectKind is user, group or service account.
type SubjectKind string

// The kinds of subjects.
const (
	User           SubjectKind = "User"
	UserGroup      SubjectKind = "Group"
	ServiceAccount SubjectKind = "ServiceAccount"
)

// SubjectName names a subject.
type SubjectName struct {
	Kind      SubjectKind `json:"kind"`
	Namespace string      `json:"namespace,omitempty"` // of service accounts
	Name      string      `json:"name"`
}

const accountPrefix = "system:serviceaccount:"

// user is the name under which the API server knows a user or service account.
func (n SubjectName) user() string {
	if n.Kind == ServiceAccount {
		return accountPrefix + n.Namespace + ":" + n.Name
	}
	return n.Name
}

func (n SubjectName) String() string {
	if n.Kind == ServiceAccount {
		return "service account " + n.Namespace + "/" + n.Name
	}
	if n.Kind == UserGroup {
		return "group " + n.Name
	}
	return "user " + n.Name
}

// Grant clears a subject for a label.
type Grant struct {
	Subject SubjectName
	Label   Label
	Trusted bool      // may let things flow down
	Expires time.Time // zero: never
}

// Role is what a member of a workspace may do at most.
type Role uint8

// The roles, by what they may do.
const (
	Viewer   Role = iota + 1 // changes nothing
	Operator                 // changes no roles, bindings, quotas, network policies and namespaces
	Admin
)

// Workspace is a group of namespaces and its members.
type Workspace struct {
	Name    string
	Label   *Label
	Members map[SubjectName]Role
	Ceiling api.Amount // of what its pods request together
}

// Namespace is a namespace with its label, nil if it carries none.
type Namespace struct {
	Name      string
	Label     *Label
	Workspace string
}

// Kind is a group and a resource, as requests name them: "apps", "deployments".
type Kind struct {
	Group    string `json:"group,omitempty"`
	Resource string `json:"resource,omitempty"`
}

// Object is an object that carries a label of its own. Namespace is empty for objects that have none.
type Object struct {
	Kind
	Namespace, Name string
	Label           Label
}

// Model is everything that decisions are made of.
type Model struct {
	Registry   *Registry
	Grants     []Grant
	Workspaces []Workspace
	Namespaces []Namespace
	Objects    []Object
	Nodes      []string // names of nodes that are there: their agents are not bound by levels
	Exempt     []string // users of the installation's own programs, beside those of the Registry
	Frozen     []Frozen // namespaces that are being re-graded
}

// Frozen is a namespace that is being re-graded: only who is cleared for everything, and for what is to be, gets in.
type Frozen struct {
	Namespace string // empty for what has none: then only To counts
	To        Label
}
