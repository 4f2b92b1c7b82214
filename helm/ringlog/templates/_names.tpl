{{/* Names, labels, images. */}}

{{- define "ringlog.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters: what is appended must fit into the 63 of a label. */}}
{{- define "ringlog.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "ringlog.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ringlog.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* By which pods are selected: never changes in the life of a release. Takes root and component. */}}
{{- define "ringlog.selector" -}}
app.kubernetes.io/name: {{ include "ringlog.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
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

{{/* Takes root and image, which may be empty: then it is the chart's. */}}
{{- define "ringlog.image" -}}
{{- $image := .image | default .root.Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
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
