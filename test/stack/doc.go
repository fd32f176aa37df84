// Package stack tests Kusion's projects as a user deploys them: with the program, on a real Kubernetes API.
package stack
