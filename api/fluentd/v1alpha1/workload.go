// Package v1alpha1 are the resources of fluentd.fluent.io/v1alpha1 as Fluent Operator defines them, odd spellings included, with additions that are all
// optional, and their CustomResourceDefinitions (CRDs). The types of plugins are made from the plugin table of package logging/plugin.
package v1alpha1

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

// Fluentd is a set of Fluentds: a StatefulSet, or a DaemonSet with mode agent.
type Fluentd struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   FluentdSpec `json:"spec,omitempty"`
	Status Status      `json:"status,omitempty"`
}

// ConfigCheck lets the engine itself read a new configuration, in a Job, before the Fluentds get it. Fluent Operator has no such field.
type ConfigCheck struct {
	Image          string   `json:"image,omitempty"`          // default that of the Fluentds
	Command        []string `json:"command,omitempty"`        // default fluentd --dry-run -c /fluentd/etc/fluent.conf
	TimeoutSeconds int64    `json:"timeoutSeconds,omitempty"` // default 120; a check that does not end is one that failed
}

// FluentdSpec says how the workload looks and which configurations it reads.
type FluentdSpec struct {
	GlobalInputs              []InputItem                    `json:"globalInputs,omitempty"`
	DefaultInputSelector      *metav1.LabelSelector          `json:"defaultInputSelector,omitempty"`
	DefaultFilterSelector     *metav1.LabelSelector          `json:"defaultFilterSelector,omitempty"`
	DefaultOutputSelector     *metav1.LabelSelector          `json:"defaultOutputSelector,omitempty"`
	DisableService            bool                           `json:"disableService,omitempty"`
	Replicas                  *int32                         `json:"replicas,omitempty"`
	Workers                   *int32                         `json:"workers,omitempty"`
	LogLevel                  string                         `json:"logLevel,omitempty" enum:"fatal,error,warn,info,debug,trace" default:"info"`
	Image                     string                         `json:"image,omitempty"`
	Args                      []string                       `json:"args,omitempty"`
	EnvVars                   []corev1.EnvVar                `json:"envVars,omitempty"`
	EnvFrom                   []corev1.EnvFromSource         `json:"envFrom,omitempty"`
	FluentdCfgSelector        metav1.LabelSelector           `json:"fluentdCfgSelector,omitempty"`
	BufferVolume              *BufferVolume                  `json:"buffer,omitempty"`
	ImagePullPolicy           corev1.PullPolicy              `json:"imagePullPolicy,omitempty"`
	ImagePullSecrets          []corev1.LocalObjectReference  `json:"imagePullSecrets,omitempty"`
	Resources                 corev1.ResourceRequirements    `json:"resources,omitempty"`
	NodeSelector              map[string]string              `json:"nodeSelector,omitempty"`
	Annotations               map[string]string              `json:"annotations,omitempty"`
	ServiceAccountAnnotations map[string]string              `json:"serviceAccountAnnotations,omitempty"`
	Affinity                  *corev1.Affinity               `json:"affinity,omitempty"`
	Tolerations               []corev1.Toleration            `json:"tolerations,omitempty"`
	RuntimeClassName          string                         `json:"runtimeClassName,omitempty"`
	PriorityClassName         string                         `json:"priorityClassName,omitempty"`
	RBACRules                 []rbacv1.PolicyRule            `json:"rbacRules,omitempty"`
	Volumes                   []corev1.Volume                `json:"volumes,omitempty"`
	VolumeMounts              []corev1.VolumeMount           `json:"volumeMounts,omitempty"`
	VolumeClaimTemplates      []corev1.PersistentVolumeClaim `json:"volumeClaimTemplates,omitempty"`
	Service                   Service                        `json:"service,omitempty"`
	SecurityContext           *corev1.PodSecurityContext     `json:"securityContext,omitempty"`
	SchedulerName             string                         `json:"schedulerName,omitempty"`
	Mode                      string                         `json:"mode,omitempty" enum:"collector,agent" default:"collector"`
	ConfigCheck               *ConfigCheck                   `json:"configCheck,omitempty"`
	ContainerSecurityContext  *corev1.SecurityContext        `json:"containerSecurityContext,omitempty"`
	PositionDB                corev1.VolumeSource            `json:"positionDB,omitempty"`
	LivenessProbe             *corev1.Probe                  `json:"livenessProbe,omitempty"`
	ReadinessProbe            *corev1.Probe                  `json:"readinessProbe,omitempty"`
	HostAliases               []corev1.HostAlias             `json:"hostAliases,omitempty"`
}

// Service is the Service in front of Fluentd.
type Service struct {
	Name        string              `json:"name,omitempty"`
	Annotations map[string]string   `json:"annotations,omitempty"`
	Labels      map[string]string   `json:"labels,omitempty"`
	Type        *corev1.ServiceType `json:"type,omitempty" enum:"ClusterIP,NodePort,LoadBalancer,ExternalName"`
}

// BufferVolume is where buffers are kept.
type BufferVolume struct {
	DisableBufferVolume   bool                          `json:"disableBufferVolume,omitempty"`
	HostPath              *corev1.HostPathVolumeSource  `json:"hostPath,omitempty"`
	EmptyDir              *corev1.EmptyDirVolumeSource  `json:"emptyDir,omitempty"`
	PersistentVolumeClaim *corev1.PersistentVolumeClaim `json:"pvc,omitempty"`
}

// ClusterFluentdConfigSpec says whose records are taken and which cluster-wide plugins they pass.
type ClusterFluentdConfigSpec struct {
	EmitMode              string                `json:"emit_mode,omitempty" enum:"record,batch"`
	StickyTags            string                `json:"stickyTags,omitempty"`
	WatchedNamespaces     []string              `json:"watchedNamespaces,omitempty"`
	WatchedHosts          []string              `json:"watchedHosts,omitempty"`
	WatchedContainers     []string              `json:"watchedConstainers,omitempty"`
	WatchedLabels         map[string]string     `json:"watchedLabels,omitempty"`
	ClusterFilterSelector *metav1.LabelSelector `json:"clusterFilterSelector,omitempty"`
	ClusterOutputSelector *metav1.LabelSelector `json:"clusterOutputSelector,omitempty"`
	ClusterInputSelector  *metav1.LabelSelector `json:"clusterInputSelector,omitempty"`
	PluginSortOrder       string                `json:"pluginSortOrder,omitempty" enum:"lexicographic,index" default:"lexicographic"`
}

// FluentdConfigSpec does so for the records of its namespace.
type FluentdConfigSpec struct {
	EmitMode              string                `json:"emit_mode,omitempty" enum:"record,batch"`
	StickyTags            string                `json:"stickyTags,omitempty"`
	WatchedHosts          []string              `json:"watchedHosts,omitempty"`
	WatchedContainers     []string              `json:"watchedConstainers,omitempty"`
	WatchedLabels         map[string]string     `json:"watchedLabels,omitempty"`
	FilterSelector        *metav1.LabelSelector `json:"filterSelector,omitempty"`
	OutputSelector        *metav1.LabelSelector `json:"outputSelector,omitempty"`
	InputSelector         *metav1.LabelSelector `json:"inputSelector,omitempty"`
	ClusterFilterSelector *metav1.LabelSelector `json:"clusterFilterSelector,omitempty"`
	ClusterOutputSelector *metav1.LabelSelector `json:"clusterOutputSelector,omitempty"`
	ClusterInputSelector  *metav1.LabelSelector `json:"clusterInputSelector,omitempty"`
	PluginSortOrder       string                `json:"pluginSortOrder,omitempty" enum:"lexicographic,index" default:"lexicographic"`
}

// Status tells whether a resource is part of the configuration, and why not.
type Status struct {
	Messages   string             `json:"messages,omitempty"`
	State      string             `json:"state,omitempty"` // active or inactive of a Fluentd, valid or invalid of what it reads
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Secret refers to a value in a Secret: in the resource's namespace, or for cluster-wide resources in that of the Fluentd.
type Secret struct {
	ValueFrom ValueSource `json:"valueFrom,omitempty"`
}

// ValueSource is where a value is.
type ValueSource struct {
	SecretKeyRef corev1.SecretKeySelector `json:"secretKeyRef,omitempty"`
}

// CustomPlugin is a plugin that the other fields do not have, as a piece of configuration.
type CustomPlugin struct {
	Config string `json:"config"`
}

// Record is a key that record_transformer sets.
type Record struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}
