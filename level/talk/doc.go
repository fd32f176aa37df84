// Package talk reads manifests of graded management on KubeSphere as they were published, and makes of them what they meant: objects that an API server takes
// and that hold. It must not know a cluster.
package talk
