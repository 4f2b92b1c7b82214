{{/*
What stands beside a server in its pod, as a list of init containers that stay: the profile builder, which begins before it, and
what takes snapshots, if anything does. Takes root, pod (the effective one), tls, and mounts, which are those of the state.
*/}}
{{- define "ringlog.sidecars" -}}
{{- $builder := .root.Values.service.builder -}}
{{- $snapshots := .root.Values.snapshots -}}
{{- $bucket := list -}}
{{- with $snapshots.credentialsSecret -}}
{{- $bucket = list (dict "secretRef" (dict "name" .)) -}}
{{- end -}}
{{- $both := dict "root" .root "tls" .tls "mounts" .mounts "restartPolicy" "Always" "parts" (list "kafka" "snapshots") "envFrom" $bucket -}}
- name: builder
  {{- include "ringlog.container" (merge (dict
    "pod" (merge (dict "resources" $builder.resources) .pod)
    "args" (list "consume" "profiles")
    "extraEnv" (list .pod.extraEnv $builder.extraEnv (dict "RINGLOG_OPS_PORT" "9091"))
    "ports" (list (dict "name" "builder-ops" "containerPort" 9091))
    "probes" (dict
      "startupProbe" (include "ringlog.probe" (dict "path" (printf "/health/started?within=%v" $builder.startWithinSeconds) "port" "builder-ops" "periodSeconds" 1 "failureThreshold" (add $builder.startWithinSeconds 60)) | fromJson)
      "livenessProbe" (include "ringlog.probe" (dict "path" "/health/live" "port" "builder-ops" "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 6) | fromJson))) $both) | nindent 2 }}
{{- if $snapshots.every }}
# No server waits for it, and none is taken out of service because there are no snapshots: so neither startup nor readiness is asked.
- name: snapshots
  {{- include "ringlog.container" (merge (dict
    "pod" (merge (dict "resources" $snapshots.resources) .pod)
    "args" (list "state" "snapshot" "--every" $snapshots.every)
    "extraEnv" (list .pod.extraEnv $builder.extraEnv (dict "RINGLOG_OPS_PORT" "9092"))
    "ports" (list (dict "name" "snapshots-ops" "containerPort" 9092))
    "probes" (dict
      "livenessProbe" (include "ringlog.probe" (dict "path" "/health/live" "port" "snapshots-ops" "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 6) | fromJson))) $both) | nindent 2 }}
{{- end }}
{{- end }}
