package buildpack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const isNumber = "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng=="

// numbers is a server that says what a module of the registry thinks of a number.
const numbers = `const isNumber = require('is-number')
require('http').createServer((q, r) => r.end('is a number: ' + isNumber('5') + '\n')).listen(process.env.PORT || 8080)
`

// TestDependencies builds applications whose dependencies come from the public registries by each of the ways that the bundled buildpacks
// know, and asks them for their page.
func TestDependencies(t *testing.T) {
	m := newMachine(t)
	pom, err := os.ReadFile(filepath.Join("..", "examples", "java", "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	hello, err := os.ReadFile(filepath.Join("..", "examples", "java", "src", "main", "java", "example", "Hello.java"))
	if err != nil {
		t.Fatal(err)
	}
	codec := "<dependencies><dependency><groupId>commons-codec</groupId><artifactId>commons-codec</artifactId><version>1.17.1</version></dependency></dependencies>\n  <build>"
	for _, tt := range []struct {
		name, page, shown string
		files             map[string]string
	}{
		{"yarn", "is a number: true", "yarn install", map[string]string{
			"package.json": `{"name":"numbers","version":"1.0.0","dependencies":{"is-number":"7.0.0"}}`, "server.js": numbers,
			"yarn.lock": "# yarn lockfile v1\n\n\nis-number@7.0.0:\n  version \"7.0.0\"\n" +
				"  resolved \"https://registry.yarnpkg.com/is-number/-/is-number-7.0.0.tgz#7535345b896734d5f80c4d06c50955527a14f12b\"\n  integrity " + isNumber + "\n"}},
		{"pnpm", "is a number: true", "is-number 7.0.0", map[string]string{
			"package.json": `{"name":"numbers","version":"1.0.0","dependencies":{"is-number":"7.0.0"}}`, "server.js": numbers,
			"pnpm-lock.yaml": "lockfileVersion: '9.0'\n\nsettings:\n  autoInstallPeers: true\n  excludeLinksFromLockfile: false\n\nimporters:\n\n  .:\n    dependencies:\n" +
				"      is-number:\n        specifier: 7.0.0\n        version: 7.0.0\n\npackages:\n\n  is-number@7.0.0:\n    resolution: {integrity: " + isNumber +
				"}\n    engines: {node: '>=0.12.0'}\n\nsnapshots:\n\n  is-number@7.0.0: {}\n"}},
		{"pyproject", "Hello from bottle", "Successfully installed bottle", map[string]string{
			"pyproject.toml": "[build-system]\nrequires = [\"setuptools>=61\"]\nbuild-backend = \"setuptools.build_meta\"\n\n[project]\nname = \"page\"\nversion = \"1.0\"\n" +
				"dependencies = [\"bottle==0.13.2\"]\n\n[tool.setuptools]\npy-modules = [\"app\"]\n",
			"app.py": "import os, bottle\n\n@bottle.route('/')\ndef page():\n    return 'Hello from bottle ' + bottle.__version__\n\n" +
				"if __name__ == '__main__':\n    bottle.run(host='0.0.0.0', port=int(os.environ.get('PORT', '8080')))\n"}},
		{"java", "Hello from 4a617661", "", map[string]string{
			"pom.xml": strings.Replace(string(pom), "<build>", codec, 1),
			"src/main/java/example/Hello.java": strings.Replace(string(hello), `"Hello from Java " + Runtime.version().feature()`,
				`"Hello from " + org.apache.commons.codec.binary.Hex.encodeHexString("Java".getBytes())`, 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			useArchive(t, m.state)
			result := m.build(files(t, tt.files), "dependencies/"+tt.name)
			if !strings.Contains(m.output(), tt.shown) {
				t.Errorf("the build does not show %q:\n%s", tt.shown, m.output())
			}
			if got := askPage(t, m.pull(result.Ref)); !strings.Contains(got, tt.page) {
				t.Errorf("the page is %q, want %q", got, tt.page)
			}
		})
	}
}
