{{/* `6h` in seconds. */}}
{{- define "ringlog.seconds" -}}
{{- mul (trimAll "smhd" . | int64) (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) (last (splitList "" .))) -}}
{{- end }}

{{/*
Consumers that are never scaled to 0 and show metrics, as JSON: `ours`, and `others` of which only their own pods are known.
*/}}
{{- define "ringlog.alwaysThere" -}}
{{- $found := dict "ours" list "others" list -}}
{{- range $name, $one := include "ringlog.consumers" . | fromJson -}}
{{- $fewest := dict "fixed" $one.replicas "keda" $one.scaling.min -}}
{{- if ne (get $fewest $one.scaling.mode | toString) "0" -}}
{{- if $one.ours -}}
{{- $_ := set $found "ours" (append $found.ours $name) -}}
{{- else if and $one.health $.Values.metrics.podMonitor.enabled -}}
{{- $_ := set $found "others" (append $found.others $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}
