package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/manager/levels"
	"github.com/weft-dev/weft/manager/webhook"
)

// levelWebhook has what the two verbs of the webhook share.
type levelWebhook struct {
	app       *app
	authority string // a file
	secret    string // or NAMESPACE/NAME of a Secret
	account   string
	exempt    []string
}

func (a *app) levelWebhookCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "webhook",
		Short: "Judge for API servers that are not the embedded one: by authorization and by admission",
		Long: "API servers ask the webhook before they answer a request, and before they write what names other objects. It needs a cluster whose API servers\n" +
			"take a file of authorization; where they do not, see `weft level policies`.",
		Example: `  weft level webhook config --url https://10.0.0.5:9443 --dir levels-webhook
  weft level webhook serve --listen 10.0.0.5:9443 --host 10.0.0.5
  weft level webhook manifests --image registry.example.com/weft:1.0 --address 10.96.0.53 --level secret`,
	}
	w := &levelWebhook{app: a}
	c.PersistentFlags().StringVar(&w.authority, "authority", "levels-authority.json", "`file` with the webhook's own authority, made where it is not there; serve and config need the same")
	c.PersistentFlags().StringVar(&w.secret, "authority-secret", "", "`NAMESPACE/NAME` of a Secret of the cluster that has the authority, in place of a file")
	c.PersistentFlags().StringVar(&w.account, "account", "weft/levels", "`NAMESPACE/NAME` of the service account of the webhook's pods, about which API servers do not ask")
	c.PersistentFlags().StringArrayVar(&w.exempt, "exempt", nil, "`user` of the installation's own programs, about which API servers do not ask; may be given again")
	c.AddCommand(w.config(), w.serve(), w.manifests())
	return c
}

func (w *levelWebhook) serve() *cobra.Command {
	var listen, name, audit string
	var hosts []string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Answer API servers until interrupted",
		Long: "The levels are those of the cluster of --kubeconfig or --context, of the pod's own cluster, or of the embedded one. The account must read everything, and\n" +
			"levels must not bind it. How the door is doing is in its object, see `kubectl get doors`.",
		Example: `  weft level webhook serve
  weft level webhook serve --listen :9443 --host levels.weft.svc --audit /var/log/levels.jsonl`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:9443", "`address` to listen on")
	c.Flags().StringArrayVar(&hosts, "host", []string{"127.0.0.1", "localhost"}, "`name` or address under which API servers call; may be given again")
	c.Flags().StringVar(&name, "name", "", "of this replica: its Door is webhook-NAME (default: the name of the machine)")
	c.Flags().StringVar(&audit, "audit", "", "`file` for the chain of records of what was denied (default: none)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := w.app.managedCluster(cmd.Context())
		if err != nil {
			return err
		}
		machine, err := os.Hostname()
		if err != nil && name == "" {
			return output.Advise(err, "Give --name.")
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
		authority, err := w.keptAuthority(cmd.Context())
		if err != nil {
			return errors.Join(err, l.Close())
		}
		s := &levels.Server{Config: cfg, Authority: authority, Hosts: hosts, Name: cmp.Or(name, machine), AuditFile: audit,
			Exempt: w.exempt, Log: slog.New(slog.NewTextHandler(w.app.err, nil))}
		w.app.print().Remark("serving on https://%s", l.Addr())
		return s.Serve(cmd.Context(), l)
	}
	return c
}

func (w *levelWebhook) config() *cobra.Command {
	var at, dir string
	c := &cobra.Command{
		Use:   "config",
		Short: "Write the files by which API servers ask the webhook",
		Long: "Writes authorization.yaml for kube-apiserver's --authorization-config (or `weft-node run --authorization-config`), webhook.kubeconfig, which it names and\n" +
			"which has a key, and validating.yaml, to be applied. A webhook that does not answer means that what it is asked about is denied; the cluster's own components\n" +
			"are not asked about.",
		Example: `  weft level webhook config --url https://10.0.0.5:9443 --dir /etc/kubernetes/levels
  kubectl apply -f /etc/kubernetes/levels/validating.yaml`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&at, "url", "https://127.0.0.1:9443", "`address` under which API servers call the webhook")
	c.Flags().StringVar(&dir, "dir", "levels-webhook", "`folder` for the files, as API servers see it")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		address, err := url.Parse(at)
		if err != nil || address.Scheme != "https" || address.Host == "" || strings.Trim(address.Path, "/") != "" {
			return output.Usagef("--url is %q, expected https://HOST:PORT", at)
		}
		account, err := w.accountOf()
		if err != nil {
			return err
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return err
		}
		files, err := w.files(cmd.Context(), strings.TrimSuffix(at, "/"), dir, account)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		var names []string
		for _, f := range files {
			name := filepath.Join(dir, f.name)
			names = append(names, name)
			if err == nil {
				err = os.WriteFile(name, f.data, 0o600)
			}
		}
		if err != nil {
			return err
		}
		return w.app.print().Result(map[string]any{"files": names}, func(page *output.Page) { page.Line(strings.Join(names, "\n")) })
	}
	return c
}

// keptAuthority is the webhook's own authority, which signs its certificates.
func (w *levelWebhook) keptAuthority(ctx context.Context) (*webhook.Authority, error) {
	if w.secret == "" {
		return &webhook.Authority{Keeper: webhook.FileKeeper(w.authority)}, nil
	}
	namespace, name, ok := strings.Cut(w.secret, "/")
	if !ok || namespace == "" || name == "" {
		return nil, output.Usagef("--authority-secret is %q, expected NAMESPACE/NAME", w.secret)
	}
	config, err := w.app.managedCluster(ctx)
	if err != nil {
		return nil, err
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &webhook.Authority{Keeper: webhook.SecretKeeper{Clients: clients, Namespace: namespace, Name: name}}, nil
}

func (w *levelWebhook) manifests() *cobra.Command {
	d := levels.Deploy{Port: 9443}
	c := &cobra.Command{
		Use:   "manifests --image IMAGE --address ADDRESS --level LEVEL",
		Short: "Show the manifests that run the webhook in a cluster",
		Long: "Two replicas behind a Service at an address that stays, by which API servers call them. The account may list everything, and write nothing but the state of its\n" +
			"doors, what workspaces use and its own authority, which is in the Secret " + levels.AuthoritySecret + " of its namespace. Apply them first; then `weft level webhook config` with that Secret writes the\n" +
			"files for the API server. Whoever may write into the namespace holds the door: it is given the highest level.",
		Example: `  weft level webhook manifests --image example.com/weft:1.0 --address 10.96.0.53 --level secret | kubectl apply -f -
  weft level webhook config --url https://10.96.0.53:9443 --authority-secret weft/levels-authority --dir levels-webhook`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&d.Image, "image", "", "`image` with weft as /weft (required)")
	c.Flags().StringVar(&d.Address, "address", "", "`address` of the Service, a free one of the cluster's Services (required)")
	c.Flags().StringVar(&d.Level, "level", "", "the highest `level` of the Registry (required)")
	c.RunE = func(*cobra.Command, []string) error {
		var err error
		if d.Account, err = w.accountOf(); err != nil {
			return err
		}
		d.Exempt = w.exempt
		switch {
		case d.Image == "":
			return output.Advise(output.Usagef("--image is missing"), "Name an image that holds weft as /weft.")
		case net.ParseIP(d.Address) == nil:
			return output.Advise(output.Usagef("--address is %q, expected an IP address", d.Address), "Take a free one of the range of Services: API servers know no names of the cluster.")
		case d.Level == "":
			return output.Advise(output.Usagef("--level is missing"), "Name the highest level of the Registry.")
		}
		var objects []any
		text := ""
		for _, o := range d.Objects() {
			objects = append(objects, o.Object)
			y, err := yaml.Marshal(o.Object)
			if err != nil {
				return err
			}
			text += "---\n" + string(y)
		}
		return w.app.print().Result(objects, func(p *output.Page) { _, _ = p.Write([]byte(text)) })
	}
	return c
}

func (w *levelWebhook) accountOf() (levels.Account, error) {
	namespace, name, ok := strings.Cut(w.account, "/")
	if !ok || namespace == "" || name == "" || strings.ContainsAny(w.account, "'\\") {
		return levels.Account{}, output.Usagef("--account is %q, expected NAMESPACE/NAME", w.account)
	}
	return levels.Account{Namespace: namespace, Name: name}, nil
}

type namedFile struct {
	name string
	data []byte
}

func (w *levelWebhook) files(ctx context.Context, at, dir string, account levels.Account) ([]namedFile, error) {
	authority, err := w.keptAuthority(ctx)
	if err != nil {
		return nil, err
	}
	bundle, err := authority.Bundle(ctx)
	if err != nil {
		return nil, err
	}
	certificate, key, err := authority.Client(ctx, "apiserver")
	if err != nil {
		return nil, err
	}
	kubeconfig, err := levels.Kubeconfig(at+levels.Path, bundle, certificate, key)
	authorization, err2 := levels.AuthorizationConfiguration(filepath.Join(dir, "webhook.kubeconfig"), account, w.exempt)
	validating, err3 := levels.ValidatingWebhook(at+levels.AdmissionPath, bundle, account, w.exempt)
	return []namedFile{{"authorization.yaml", authorization}, {"webhook.kubeconfig", kubeconfig}, {"validating.yaml", validating}}, errors.Join(err, err2, err3)
}
