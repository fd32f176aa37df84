// Package policy turns levels into objects that an API server enforces by itself, with no component of ours running: ValidatingAdmissionPolicies
// for writes and references, a MutatingAdmissionPolicy that keeps pods off nodes above them, cluster roles that say which labels somebody is cleared
// for, and policies for a folder of static manifests that guard all these.
//
// It is a pure function of a level.Model. Admission sees neither reads nor impersonation; what the policies cannot do is listed among the gaps.
package policy
