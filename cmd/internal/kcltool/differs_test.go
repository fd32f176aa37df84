package kcltool_test

const lastDigit = "upstream's YAML passes through a JSON reader that changes the last digit; ours is the shortest text that reads back the same"

// grammarDiffers has the cases of tests/grammar that we answer otherwise, with
// the reason.
var grammarDiffers = map[string]string{
	"builtins/file/workdir":                        "upstream's runner gives no working folder",
	"builtins/math/exp":                            "exp() is exact to one unit of the last digit",
	"builtins/math/expm1":                          lastDigit,
	"builtins/math/modf":                           lastDigit,
	"datatype/range_check_float/normal":            lastDigit,
	"datatype/range_check_float/overflow/number_1": lastDigit,
	"import/import_main_file_fail_1":               "upstream tells of a program that imports itself without a place, under the code of evaluation",
	"misc/profile":                                 "the option -p, by which upstream's library measures itself, is none of the command kcl",
}

const (
	foreignText = "text that is no KCL"
	noImport    = "regex is used and not imported"
	wrongCall   = "calls with the wrong number of arguments"
)

// moduleFaults has the packages of kcl-lang/modules with errors of their own.
var moduleFaults = map[string]string{
	"agent":                             "regex is an attribute there, and no import",
	"aws-load-balancer-controller":      noImport,
	"cluster-api-provider-vsphere":      "a check without any condition",
	"crossplane-provider-upjet-aws":     "two schemas of one name in a package",
	"crossplane-provider-upjet-gcp":     `"\N" in a string that is not raw`,
	"datadog-operator":                  "k8s is imported and not named in kcl.mod",
	"fluent-operator":                   "${...} of Ruby in a documentation string, which is read as KCL",
	"fluxcd":                            noImport,
	"karmada":                           "a check without any condition",
	"karpenter":                         noImport + "; a default of the wrong type",
	"kops":                              foreignText + ": regular expressions without quotes",
	"kubeblocks":                        foreignText + `: "="$POD_FQDN""`,
	"kwok":                              "a quantifier without a test",
	"logging-operator":                  "attributes with a dot in their name, without quotes",
	"looper":                            wrongCall,
	"openshift-enforce-etcd-encryption": foreignText + ": a colon in place of an equals sign",
	"prometheus":                        foreignText + ": regular expressions without quotes",
	"psp-allowed-users":                 wrongCall,
	"result":                            foreignText + ": a comma before if",
	"strategic_merge_patch":             wrongCall,
	"tekton-require-securitycontext":    foreignText + ": a name with hyphens",
}
