package main

import (
	"context"
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	// exec plug-ins and other ways to sign in
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func runKubelet(args []string) error {
	cmd := kubelet.NewKubeletCommand(context.Background())
	cmd.SetArgs(args)
	os.Exit(cli.Run(cmd))
	return nil
}

func runProxy(args []string) error {
	cmd := kubeproxy.NewProxyCommand()
	cmd.SetArgs(args)
	os.Exit(cli.Run(cmd))
	return nil
}

// runKubectl behaves as upstream's program, its exit codes and plug-ins included.
func runKubectl(args []string) error {
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)) // a wrong level is reported where the flag is read
	os.Args = append([]string{"kubectl"}, args...)
	cmd := kubectl.NewDefaultKubectlCommand()
	if err := cli.RunNoErrOutput(cmd); err != nil {
		kubectlutil.CheckErr(err)
	}
	return nil
}
