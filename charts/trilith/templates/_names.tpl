{{/* The name of everything that the operator consists of. */}}
{{- define "trilith.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "trilith.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "trilith.name" .) -}}
{{- end }}

{{- define "trilith.selector" -}}
app.kubernetes.io/name: trilith-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "trilith.labels" -}}
{{ include "trilith.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* An image's full name: include "trilith.image" (list $ .Values.node.image) */}}
{{- define "trilith.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.image.registry }}{{ . | trimSuffix "/" }}/{{ end -}}
{{- $image.name }}:{{ $image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion -}}
{{- end }}

{{/* What every pod of this chart runs under: the strictest of Kubernetes' pod security standards. */}}
{{- define "trilith.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "trilith.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
