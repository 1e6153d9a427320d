{{- define "weir.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Of what is in no namespace: a release of the same name may be in another one. */}}
{{- define "weir.clusterName" -}}
{{- printf "%s-%s" (include "weir.name" .) .Release.Namespace -}}
{{- end -}}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "weir.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* What the operator may do where jobs are: the table of docs/reference/operator.md. */}}
{{- define "weir.jobRules" -}}
- apiGroups: [weir.dev]
  resources: [statefuljobs]
  verbs: [get, list, watch, patch]
- apiGroups: [weir.dev]
  resources: [statefuljobs/status, jobsnapshots/status]
  verbs: [patch]
- apiGroups: [weir.dev]
  resources: [jobsnapshots]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- define "weir.subject" -}}
- kind: ServiceAccount
  name: {{ include "weir.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Of what an uninstall runs: no operator, so that nothing that selects operators finds it. */}}
{{- define "weir.releaseLabels" -}}
app.kubernetes.io/name: weir-release
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "weir.releaseHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "weir.releaseRules" -}}
- apiGroups: [weir.dev]
  resources: [statefuljobs, jobsnapshots]
  verbs: [list, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
