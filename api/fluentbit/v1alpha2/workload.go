// Package v1alpha2 are the resources of fluentbit.fluent.io/v1alpha2 as Fluent Operator defines them, odd spellings included, with additions that are all
// optional, and their CustomResourceDefinitions (CRDs). The types of plugins are made from the plugin table of package logging/plugin.
package v1alpha2

import (
	"embed"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CRDs are the CustomResourceDefinitions, a file for each kind.
//
//go:embed crds/*.yaml
var CRDs embed.FS

// FluentBit is a set of agents, one on each node.
type FluentBit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   FluentBitSpec `json:"spec,omitempty"`
	Status Status        `json:"status,omitempty"`
}

// FluentBitSpec says how the DaemonSet of agents looks and which configuration they read.
type FluentBitSpec struct {
	DisableService                 bool                          `json:"disableService,omitempty"`
	Image                          string                        `json:"image,omitempty"`
	Args                           []string                      `json:"args,omitempty"`
	Command                        []string                      `json:"command,omitempty"`
	ImagePullPolicy                corev1.PullPolicy             `json:"imagePullPolicy,omitempty"`
	ImagePullSecrets               []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	InternalMountPropagation       *corev1.MountPropagationMode  `json:"internalMountPropagation,omitempty" enum:"None,HostToContainer,Bidirectional"`
	PositionDB                     corev1.VolumeSource           `json:"positionDB,omitempty"`           // where tailed files' offsets are kept, at /fluent-bit/tail
	ContainerLogRealPath           string                        `json:"containerLogRealPath,omitempty"` // default /var/lib/docker/containers
	Resources                      corev1.ResourceRequirements   `json:"resources,omitempty"`
	NodeSelector                   map[string]string             `json:"nodeSelector,omitempty"`
	Affinity                       *corev1.Affinity              `json:"affinity,omitempty"`
	Tolerations                    []corev1.Toleration           `json:"tolerations,omitempty"`
	FluentBitConfigName            string                        `json:"fluentBitConfigName,omitempty"` // of the ClusterFluentBitConfig
	NamespacedFluentBitCfgSelector metav1.LabelSelector          `json:"namespaceFluentBitCfgSelector,omitempty"`
	Secrets                        []string                      `json:"secrets,omitempty"` // mounted at /fluent-bit/secrets/NAME
	RuntimeClassName               string                        `json:"runtimeClassName,omitempty"`
	PriorityClassName              string                        `json:"priorityClassName,omitempty"`
	Volumes                        []corev1.Volume               `json:"volumes,omitempty"`
	VolumesMounts                  []corev1.VolumeMount          `json:"volumesMounts,omitempty"`
	DisableLogVolumes              bool                          `json:"disableLogVolumes,omitempty"`
	Annotations                    map[string]string             `json:"annotations,omitempty"`
	ServiceAccountAnnotations      map[string]string             `json:"serviceAccountAnnotations,omitempty"`
	Labels                         map[string]string             `json:"labels,omitempty"`
	SecurityContext                *corev1.PodSecurityContext    `json:"securityContext,omitempty"`
	ContainerSecurityContext       *corev1.SecurityContext       `json:"containerSecurityContext,omitempty"`
	HostNetwork                    bool                          `json:"hostNetwork,omitempty"`
	EnvVars                        []corev1.EnvVar               `json:"envVars,omitempty"`
	LivenessProbe                  *corev1.Probe                 `json:"livenessProbe,omitempty"`
	ReadinessProbe                 *corev1.Probe                 `json:"readinessProbe,omitempty"`
	InitContainers                 []corev1.Container            `json:"initContainers,omitempty"`
	Ports                          []corev1.ContainerPort        `json:"ports,omitempty"`
	RBACRules                      []rbacv1.PolicyRule           `json:"rbacRules,omitempty"`
	DNSPolicy                      corev1.DNSPolicy              `json:"dnsPolicy,omitempty"`
	MetricsPort                    int32                         `json:"metricsPort,omitempty"` // default 2020
	Service                        AgentService                  `json:"service,omitempty"`
	SchedulerName                  string                        `json:"schedulerName,omitempty"`
	TerminationGracePeriodSeconds  *int64                        `json:"terminationGracePeriodSeconds,omitempty"`
	HostAliases                    []corev1.HostAlias            `json:"hostAliases,omitempty"`
	ConfigCheck                    *ConfigCheck                  `json:"configCheck,omitempty"`
}

// ConfigCheck lets the engine itself read a new configuration, in a Job, before the agents get it. Fluent Operator has no such field.
type ConfigCheck struct {
	Image          string   `json:"image,omitempty"`          // default that of the agents
	Command        []string `json:"command,omitempty"`        // default /fluent-bit/bin/fluent-bit --dry-run -c FILE
	TimeoutSeconds int64    `json:"timeoutSeconds,omitempty"` // default 120; a check that does not end is one that failed
}

// AgentService is the Service in front of agents.
type AgentService struct {
	Name        string            `json:"name,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

// Collector is Fluent Bit as an aggregator, a StatefulSet with a buffer on a volume.
type Collector struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CollectorSpec `json:"spec,omitempty"`
	Status Status        `json:"status,omitempty"`
}

// CollectorSpec says how the StatefulSet looks and which configuration it reads.
type CollectorSpec struct {
	Image                     string                        `json:"image,omitempty"`
	Args                      []string                      `json:"args,omitempty"`
	ImagePullPolicy           corev1.PullPolicy             `json:"imagePullPolicy,omitempty"`
	ImagePullSecrets          []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	Resources                 corev1.ResourceRequirements   `json:"resources,omitempty"`
	NodeSelector              map[string]string             `json:"nodeSelector,omitempty"`
	Affinity                  *corev1.Affinity              `json:"affinity,omitempty"`
	Tolerations               []corev1.Toleration           `json:"tolerations,omitempty"`
	FluentBitConfigName       string                        `json:"fluentBitConfigName,omitempty"`
	Secrets                   []string                      `json:"secrets,omitempty"`
	RuntimeClassName          string                        `json:"runtimeClassName,omitempty"`
	PriorityClassName         string                        `json:"priorityClassName,omitempty"`
	Volumes                   []corev1.Volume               `json:"volumes,omitempty"`
	VolumesMounts             []corev1.VolumeMount          `json:"volumesMounts,omitempty"`
	Annotations               map[string]string             `json:"annotations,omitempty"`
	ServiceAccountAnnotations map[string]string             `json:"serviceAccountAnnotations,omitempty"`
	SecurityContext           *corev1.PodSecurityContext    `json:"securityContext,omitempty"`
	HostNetwork               bool                          `json:"hostNetwork,omitempty"`
	PersistentVolumeClaim     *corev1.PersistentVolumeClaim `json:"pvc,omitempty"`
	RBACRules                 []rbacv1.PolicyRule           `json:"rbacRules,omitempty"`
	DisableService            bool                          `json:"disableService,omitempty"`
	BufferPath                *string                       `json:"bufferPath,omitempty"` // default /buffers/fluentbit/log
	Ports                     []corev1.ContainerPort        `json:"ports,omitempty"`
	Service                   AgentService                  `json:"service,omitempty"`
	SchedulerName             string                        `json:"schedulerName,omitempty"`
	Replicas                  *int32                        `json:"replicas,omitempty"`
	ConfigCheck               *ConfigCheck                  `json:"configCheck,omitempty"`
}

// ClusterFluentBitConfigSpec is a configuration: the engine's settings and which resources are part of it.
type ClusterFluentBitConfigSpec struct {
	Service                 *Service             `json:"service,omitempty"`
	InputSelector           metav1.LabelSelector `json:"inputSelector,omitempty"`
	FilterSelector          metav1.LabelSelector `json:"filterSelector,omitempty"`
	OutputSelector          metav1.LabelSelector `json:"outputSelector,omitempty"`
	ParserSelector          metav1.LabelSelector `json:"parserSelector,omitempty"`
	MultilineParserSelector metav1.LabelSelector `json:"multilineParserSelector,omitempty"`
	Namespace               *string              `json:"namespace,omitempty"` // of the Secret with the configuration
	ConfigFileFormat        *string              `json:"configFileFormat,omitempty" enum:"classic,yaml"`
	Tenancy                 *Tenancy             `json:"tenancy,omitempty"`
}

// Tenancy says how the records of namespaces that have a FluentBitConfig are told apart, and what an agent takes in of them. Fluent Operator has no such field.
type Tenancy struct {
	Routing string           `json:"routing,omitempty" enum:"rewrite,tag"` // by a filter for each namespace, as the operator does (default), or by an input for each
	Quota   *Quota           `json:"quota,omitempty"`                      // of each namespace
	Quotas  map[string]Quota `json:"quotas,omitempty"`                     // of single namespaces; what is not given is as in quota
}

// Quota limits what the agent on each node takes in of one namespace.
type Quota struct {
	RecordsPerSecond int64  `json:"recordsPerSecond,omitempty"`
	BytesPerSecond   string `json:"bytesPerSecond,omitempty"` // for example 500K, 64M, 1G
	BufferedBytes    string `json:"bufferedBytes,omitempty"`  // what waits to be sent
	WhenFull         string `json:"whenFull,omitempty" enum:"pause,dropOldest"`
}

// FluentBitConfigSpec is what a namespace adds for its own records.
type FluentBitConfigSpec struct {
	Service                        *Service             `json:"service,omitempty"` // of it only emitterName, emitterMemBufLimit and emitterStorageType count
	FilterSelector                 metav1.LabelSelector `json:"filterSelector,omitempty"`
	OutputSelector                 metav1.LabelSelector `json:"outputSelector,omitempty"`
	ParserSelector                 metav1.LabelSelector `json:"parserSelector,omitempty"`
	ClusterParserSelector          metav1.LabelSelector `json:"clusterParserSelector,omitempty"`
	MultilineParserSelector        metav1.LabelSelector `json:"multilineParserSelector,omitempty"`
	ClusterMultilineParserSelector metav1.LabelSelector `json:"clusterMultilineParserSelector,omitempty"`
}

// Status tells whether a resource is part of the configuration, and why not.
type Status struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Secret refers to a value in a Secret: in the resource's namespace, or for cluster-wide resources in that of the configuration.
type Secret struct {
	ValueFrom ValueSource `json:"valueFrom,omitempty"`
}

// ValueSource is where a value is.
type ValueSource struct {
	SecretKeyRef corev1.SecretKeySelector `json:"secretKeyRef,omitempty"`
}

// CustomPlugin is a plugin, or an option, that the other fields do not have.
type CustomPlugin struct {
	Config     string         `json:"config,omitempty"`     // keys and values, a line each, for the classic format
	YamlConfig map[string]any `json:"yamlConfig,omitempty"` // for the YAML format
}

// MultilineRule is a rule of a multiline parser.
type MultilineRule struct {
	Start string `json:"start"`
	Regex string `json:"regex"`
	Next  string `json:"next"`
}

// Decoder decodes a field of a parsed record.
type Decoder struct {
	DecodeField   string `json:"decodeField,omitempty"`
	DecodeFieldAs string `json:"decodeFieldAs,omitempty"`
}
