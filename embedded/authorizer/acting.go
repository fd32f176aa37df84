package authorizer

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"github.com/weft-dev/weft/level"
)

// An API server remembers for 10 s that somebody was let act as another, and does not ask authorizers again (k8s.io/apiserver,
// endpoints/filters/impersonation/cache.go). So levels ask themselves: about who sent a request, when they are asked about whom it acts as.

// acts are the questions of whom a request acts as, as an API server asks them (endpoints/filters/impersonation/impersonation.go). Headers are read
// here before anybody has looked at them; what is wrong with them is told later by others.
func acts(h http.Header) []level.Request {
	var all []level.Request
	ask := func(resource, subresource, namespace, name string) {
		all = append(all, level.Request{Verb: "impersonate", Resource: resource, Subresource: subresource, Namespace: namespace, Name: name})
	}
	for name, values := range h {
		const extra = "Impersonate-Extra-"
		switch {
		case name == "Impersonate-User":
			for _, user := range values {
				if namespace, account, err := serviceaccount.SplitUsername(user); err == nil {
					ask("serviceaccounts", "", namespace, account)
				} else {
					ask("users", "", "", user)
				}
			}
		case name == "Impersonate-Group":
			for _, group := range values {
				ask("groups", "", "", group)
			}
		case name == "Impersonate-Uid":
			for _, uid := range values {
				ask("uids", "", "", uid)
			}
		case strings.HasPrefix(name, extra):
			key := strings.ToLower(name[len(extra):])
			if decoded, err := url.PathUnescape(key); err == nil {
				key = decoded
			}
			for _, value := range values {
				ask("userextras", key, "", value)
			}
		}
	}
	return all
}

// Authenticator remembers who sent a request that acts as somebody else.
func (s *Streams) Authenticator(next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		response, ok, err := next.AuthenticateRequest(r)
		if one := streamOf(r.Context()); ok && one != nil && len(one.acts) > 0 {
			one.mu.Lock()
			one.sender = response.User
			one.mu.Unlock()
		}
		return response, ok, err
	})
}

// acting says whether who sent a request may not, or no longer, act as whom it acts as. The questions are remembered as those of the stream.
func (a *Authorizer) acting(s *stream) (denied bool, message string) {
	s.mu.Lock()
	sender, asked := s.sender, s.acts
	s.mu.Unlock()
	if sender == nil {
		return false, ""
	}
	for i := range asked {
		s.note(sender.GetName(), sender.GetGroups(), &asked[i])
		verdict := a.door.Judge(sender.GetName(), sender.GetGroups(), &asked[i])
		if verdict.Denied {
			a.door.Remember(sender.GetName(), sender.GetGroups(), &asked[i], verdict)
			return true, verdict.Message
		}
	}
	return false, ""
}
