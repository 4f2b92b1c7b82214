{{/* Names, labels, images. */}}

{{- define "ringlog.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters: what is appended must fit into the 63 of a label. A release's name may have dots, a Service's not. */}}
{{- define "ringlog.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $name = contains (include "ringlog.name" .) $release | ternary $release (printf "%s-%s" $release (include "ringlog.name" .)) -}}
{{- end -}}
{{- $name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/*
By which pods are selected: never changes in the life of a release. As YAML, because a release may be called 123 or true.
Takes root and component.
*/}}
{{- define "ringlog.selector" -}}
app.kubernetes.io/name: {{ include "ringlog.name" .root | toYaml }}
app.kubernetes.io/instance: {{ toYaml .root.Release.Name }}
app.kubernetes.io/component: {{ toYaml .component }}
{{- end }}

{{/* Of every object. Takes root and component. */}}
{{- define "ringlog.labels" -}}
{{ include "ringlog.selector" . }}
app.kubernetes.io/part-of: ringlog
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ringlog.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "ringlog.fullname" .) }}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Takes root and image, which may be empty: what it does not say is the chart's. */}}
{{- define "ringlog.image" -}}
{{- $image := .image | default .root.Values.image -}}
{{- $repository := $image.repository | default .root.Values.image.repository -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{/*
A Job can't be changed, so a changed one has another name: by version and revision, and by what it would do, for those
who render the chart and have no revisions. Takes root, component and spec (a text).
*/}}
{{- define "ringlog.jobName" -}}
{{- $version := .root.Chart.AppVersion | replace "." "-" | replace "+" "-" | lower | trunc 20 -}}
{{- printf "%s-%s-%s-%d-%s" (include "ringlog.fullname" .root | trunc 20 | trimSuffix "-") .component $version .root.Release.Revision (.spec | sha256sum | trunc 5) }}
{{- end }}
