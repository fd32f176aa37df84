package registry

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
)

// DockerCredentials reads the credentials that `docker login` and its like have stored: the file config.json in
// folder, with credsStore and credHelpers, which are programs called docker-credential-NAME. An empty folder means
// $DOCKER_CONFIG or ~/.docker, then Podman's $REGISTRY_AUTH_FILE and $XDG_RUNTIME_DIR/containers/auth.json.
func DockerCredentials(folder string) authn.Keychain {
	if folder == "" {
		return authn.DefaultKeychain
	}
	return dockerFolder(folder)
}

type dockerFolder string

// Resolve finds the credentials of a registry or of one of its repositories.
func (f dockerFolder) Resolve(target authn.Resource) (authn.Authenticator, error) {
	path := filepath.Join(string(f), "config.json")
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return authn.Anonymous, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := parseDockerConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file.Filename = path
	for _, key := range []string{target.String(), target.RegistryStr()} {
		if key == DockerHub {
			key = authn.DefaultAuthKey
		}
		c, err := file.GetAuthConfig(key)
		if err != nil {
			return nil, err
		}
		c.ServerAddress = ""
		if c != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, Auth: c.Auth, IdentityToken: c.IdentityToken,
				RegistryToken: c.RegistryToken}), nil
		}
	}
	return authn.Anonymous, nil
}

func parseDockerConfig(data []byte) (*configfile.ConfigFile, error) {
	file, err := config.LoadFromReader(bytes.NewReader(data))
	if err != nil {
		// The text of the decoder's error could quote a secret.
		return nil, fmt.Errorf("not a Docker config.json: it must be a JSON object whose auths hold base64 of USER:PASSWORD")
	}
	return file, nil
}

// Explicit is a keychain of given credentials by host (host or host:port).
func Explicit(credentials map[string]authn.AuthConfig) authn.Keychain {
	return explicit(credentials)
}

type explicit map[string]authn.AuthConfig

// Resolve finds the credentials of a registry.
func (e explicit) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return e.ResolveContext(context.Background(), target)
}

// ResolveContext is Resolve.
func (e explicit) ResolveContext(_ context.Context, target authn.Resource) (authn.Authenticator, error) {
	if c, ok := e[target.RegistryStr()]; ok {
		return authn.FromConfig(c), nil
	}
	if c, ok := e["docker.io"]; ok && target.RegistryStr() == DockerHub {
		return authn.FromConfig(c), nil
	}
	return authn.Anonymous, nil
}
