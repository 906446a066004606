{{/* What the operator does in the namespaces that it looks after. No rule has a wildcard, and a verb is
     here only because the operator uses it. */}}
{{- define "trilith.rules.watched" -}}
- apiGroups: [kv.trilith.dev]
  resources: [kvclusters, kvtables]
  verbs: [get, list, watch, patch]
- apiGroups: [kv.trilith.dev]
  resources: [kvclusters/status, kvtables/status]
  verbs: [patch]
# To own objects that hold back the deletion of their owner.
- apiGroups: [kv.trilith.dev]
  resources: [kvclusters/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# Those go with their owner.
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
# StatefulSets make the pods; a pod that has to start anew is deleted.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.rbac.serviceMonitors }}
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, create, patch, delete]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What belongs to no namespace: which zone a machine is in, and whether a class lets claims grow. */}}
{{- define "trilith.rules.cluster" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [get, list, watch]
{{- end }}
