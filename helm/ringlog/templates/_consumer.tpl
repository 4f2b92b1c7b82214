{{/* A consumer with its defaults, as JSON, and `ours`. Takes root, name and own, which may be empty. */}}
{{- define "ringlog.consumer" -}}
{{- $own := .own | default dict -}}
{{- $one := dict -}}
{{- range $key, $default := .root.Values.consumerDefaults -}}
{{- if not (hasKey $own $key) -}}
{{- $_ := set $one $key $default -}}
{{- else if eq $key "scaling" -}}
{{- $scaling := dict -}}
{{- range $inner, $value := $default -}}
{{- $_ := set $scaling $inner (ternary (get $own.scaling $inner) $value (hasKey $own.scaling $inner)) -}}
{{- end -}}
{{- $_ := set $one $key $scaling -}}
{{- else -}}
{{- $_ := set $one $key (get $own $key) -}}
{{- end -}}
{{- end -}}
{{- $reads := dict "calls" (list "calls.prefetch" "calls.ended") "billing" (list "calls.ended") "transcripts" (list "calls.ended") "recordings" (list "calls.ended") -}}
{{- $ours := and (hasKey $reads .name) (not $one.command) -}}
{{- $_ := set $one "ours" $ours -}}
{{- if and $ours (not $one.args) -}}
{{- $_ := set $one "args" (list "consume" .name) -}}
{{- end -}}
{{- $scaling := deepCopy $one.scaling -}}
{{- if and $ours (not $scaling.topics) -}}
{{- $_ := set $scaling "topics" (get $reads .name) -}}
{{- end -}}
{{- $_ := set $scaling "group" ($scaling.group | default (printf "ringlog.%s" .name)) -}}
{{- $_ := set $one "scaling" $scaling -}}
{{- if and $ours (eq .name "recordings") -}}
{{- $_ := set $one "internet" true -}}
{{- end -}}
{{- toJson $one -}}
{{- end }}

{{/* The consumers that are there, as a JSON object: name to what "ringlog.consumer" says. */}}
{{- define "ringlog.consumers" -}}
{{- $found := dict -}}
{{- range $name, $own := .Values.consumers -}}
{{- if not (kindIs "invalid" $own) -}}
{{- $one := include "ringlog.consumer" (dict "root" $ "name" $name "own" $own) | fromJson -}}
{{- if $one.enabled -}}
{{- $_ := set $found $name $one -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* Health as every process of ours has it. */}}
{{- define "ringlog.consumerProbes" -}}
startupProbe:
  {{- include "ringlog.probe" (dict "path" "/health/live" "port" "ops" "periodSeconds" 1 "failureThreshold" 60) | fromJson | toYaml | nindent 2 }}
livenessProbe:
  {{- include "ringlog.probe" (dict "path" "/health/live" "port" "ops" "periodSeconds" 10 "timeoutSeconds" 5) | fromJson | toYaml | nindent 2 }}
readinessProbe:
  {{- include "ringlog.probe" (dict "path" "/health/ready" "port" "ops") | fromJson | toYaml | nindent 2 }}
{{- end }}
