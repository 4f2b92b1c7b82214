{{/* A plain Job: hooks would block whoever waits for the release before the consumers, which wait for them.
Takes root, component, own, args and parts. */}}
{{- define "ringlog.job" }}
{{- $spec := include "ringlog.podTemplate" (dict
  "root" .root "component" .component "own" .own
  "name" .component "args" .args "parts" .parts
  "spec" (dict "restartPolicy" "OnFailure")) }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "ringlog.jobName" (dict "root" .root "component" .component "spec" $spec) }}
  labels:
    {{- include "ringlog.labels" (dict "root" .root "component" .component) | nindent 4 }}
spec:
  # What is away is waited for inside; this is for what is wrong until somebody mends it.
  backoffLimit: 20
  template:
    {{- $spec | nindent 4 }}
{{- end }}
