package reference

import (
	"errors"

	"github.com/weft-dev/weft/level"
)

// Operation is what is done to an object, as admission calls it.
type Operation string

// The operations (k8s.io/api/admission/v1 Operation).
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Object is an object that is written, as admission sees it. New and Old are its JSON form; Old is there with Update and Delete, New with
// Create and Update.
type Object struct {
	Operation       Operation
	Resource        level.Kind
	Subresource     string
	Namespace, Name string
	New, Old        map[string]any
}

// Use says in one word by what an object leads to another. The words are stable.
type Use string

// The uses.
const (
	Reads    Use = "Reads"    // its content comes into the object's pods, or it is acted on
	Runs     Use = "Runs"     // runs as a service account, or gets its token
	Places   Use = "Places"   // on a node
	Host     Use = "Host"     // reaches the machine below, and so all that runs there
	Owns     Use = "Owns"     // an owner, with which the object is deleted
	Routes   Use = "Routes"   // sends traffic there
	Gives    Use = "Gives"    // rights to a subject
	Hooks    Use = "Hooks"    // the API server sends requests there
	Identity Use = "Identity" // a certificate for somebody
)

// Reference is one thing that an object leads to.
type Reference struct {
	Field string // path in the object: spec.template.spec.volumes[0].secret.secretName
	Use   Use
	// Request is what the object does by it.
	Request level.Request
	// Level, if it is not empty, stands for whatever carries that label, in place of a request.
	Level string
	// Subject, if it is set, is who does it: rights are given to it. Else the object's holder does.
	Subject *level.SubjectName
	// Backend, if it is not empty, is the namespace of the service that does it.
	Backend string
	// Requester says that whoever writes the object does it.
	Requester bool
}

// Lookup answers what is not written in the object. Any of its functions may be nil: then the worst is assumed.
type Lookup struct {
	// Rules are those of a role; namespace is empty for cluster roles. A role that is not there has no rules yet, so it must not be found.
	Rules func(namespace, name string) ([]Rule, bool)
	// Bound are those who have a role, a cluster role (namespace is empty) by its name or by a role that collects those with its labels.
	Bound func(namespace, role string, labels map[string]string) []Holding
	// Pod is the pod that has an address.
	Pod func(address string) (namespace, name string, found bool)
	// Paths are fields of further kinds that name objects.
	Paths func(level.Kind) []Path
}

// Holding says that a subject has a role, and where.
type Holding struct {
	Subject   level.SubjectName
	Namespace string // empty for everywhere
}

// Rule is a rule of a role (k8s.io/api/rbac/v1 PolicyRule).
type Rule struct {
	Verbs, Groups, Resources, Names []string
}

// Path is a field of a kind that names an object of another kind.
type Path struct {
	Field string // of the name: spec.credentials.name; lists are walked through
	To    level.Kind
}

// Limits of what Find walks through. An API server takes objects of 3 MB at most.
const (
	maxDepth  = 100
	maxValues = 500_000
	maxFound  = 20_000
)

// ErrTooLarge is returned for an object that is nested too deeply or holds too much to be judged.
var ErrTooLarge = errors.New("the object is nested too deeply, or names too much, to be judged by levels")

// Find returns what an object leads to. With Update only what the old object did not already lead to is returned; with Delete and Connect nothing.
func Find(o *Object, look Lookup) ([]Reference, error) {
	if o.Operation != Create && o.Operation != Update || o.New == nil {
		return nil, nil
	}
	found, err := find(o, o.New, look)
	if err != nil || o.Operation != Update || o.Old == nil || Label(o.New) != Label(o.Old) {
		return found, err
	}
	old, err := find(o, o.Old, look)
	if err != nil {
		return nil, err
	}
	had := make(map[key]bool, len(old))
	for i := range old {
		had[old[i].key()] = true
	}
	kept := found[:0]
	for i := range found {
		if !had[found[i].key()] {
			kept = append(kept, found[i])
		}
	}
	return kept, nil
}

// key is what makes two references the same, wherever they stand.
type key struct {
	use       Use
	request   level.Request
	level     string
	subject   level.SubjectName
	backend   string
	requester bool
}

func (r *Reference) key() key {
	k := key{r.Use, r.Request, r.Level, level.SubjectName{}, r.Backend, r.Requester}
	if r.Subject != nil {
		k.subject = *r.Subject
	}
	return k
}
