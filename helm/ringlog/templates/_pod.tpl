{{/*
The one pod template of all components. Takes

  root, component
  own             what the component's `pod` says
  name            of the main container
  image           empty: the chart's
  command, args   lists, may be empty
  parts           of the environment, see "ringlog.environment"
  extraEnv        more of it, over that of the pods
  envFrom, ports, probes, lifecycle    of the main container, as maps and lists; may be left out
  volumes, mounts lists of the component itself; may be left out
  sidecars        init containers as text; may be left out
  spec            further keys of the pod, as a map; may be left out

Every container gets /tmp, because its root is read-only, and the files of Kafka's certificates.
*/}}
{{- define "ringlog.podTemplate" -}}
{{- $root := .root -}}
{{- $pod := include "ringlog.effectivePod" . | fromJson -}}
{{- $tls := include "ringlog.kafkaFiles" $root | fromJsonArray -}}
metadata:
  labels:
    {{- include "ringlog.labels" . | nindent 4 }}
    {{- with $pod.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $pod.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .spec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  serviceAccountName: {{ $pod.serviceAccountName | default (include "ringlog.serviceAccountName" $root) }}
  automountServiceAccountToken: false
  # Variables for every Service of the namespace would begin with RINGLOG_, too.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $pod.terminationGracePeriodSeconds }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml $pod.securityContext | nindent 4 }}
  {{- with $pod.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{- toYaml . | nindent 6 }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "ringlog.selector" $ | nindent 10 }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with $pod.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .sidecars }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      {{- include "ringlog.container" (merge (dict "pod" $pod "tls" $tls "extraEnv" (prepend (.extraEnv | default list) $pod.extraEnv)) .) | nindent 6 }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if $tls }}
    - name: kafka
      projected:
        defaultMode: 0440
        sources:
          {{- toYaml $tls | nindent 10 }}
    {{- end }}
    {{- range concat (.volumes | default list) $pod.volumes }}
    - {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}

{{/* All of a container but its name. Takes what the pod template takes, and pod, tls and the whole of extraEnv, as a list. */}}
{{- define "ringlog.container" -}}
image: {{ include "ringlog.image" . }}
imagePullPolicy: {{ (.image | default .root.Values.image).pullPolicy | default .root.Values.image.pullPolicy }}
{{- with .command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
env:
  {{- include "ringlog.environmentList" (include "ringlog.environment" (dict "root" .root "parts" .parts "extra" .extraEnv) | fromJson) | trim | nindent 2 }}
{{- with .envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .ports }}
ports:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .probes }}
{{ toYaml . }}
{{- end }}
{{- with .lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .pod.resources | nindent 2 }}
securityContext:
  {{- toYaml .pod.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .tls }}
  - {name: kafka, mountPath: /etc/ringlog/kafka, readOnly: true}
  {{- end }}
  {{- range concat (.mounts | default list) .pod.volumeMounts }}
  - {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/*
What `pod` says for all, with what the component's own says: a key replaces, but maps of labels, annotations and
environment are added to. As JSON. Takes root and own.
*/}}
{{- define "ringlog.effectivePod" -}}
{{- $own := .own | default dict -}}
{{- $pod := dict -}}
{{- range $key, $shared := .root.Values.pod -}}
{{- if not (hasKey $own $key) -}}
{{- $_ := set $pod $key $shared -}}
{{- else if has $key (list "labels" "annotations" "extraEnv") -}}
{{- $_ := set $pod $key (merge (deepCopy (get $own $key)) $shared) -}}
{{- else -}}
{{- $_ := set $pod $key (get $own $key) -}}
{{- end -}}
{{- end -}}
{{- toJson $pod -}}
{{- end }}

{{/* Sources of the volume with Kafka's certificates, as JSON; empty without any. */}}
{{- define "ringlog.kafkaFiles" -}}
{{- $tls := .Values.kafka.tls -}}
{{- $sources := list -}}
{{- if and $tls.enabled $tls.ca.name -}}
{{- $sources = append $sources (dict "secret" (dict "name" $tls.ca.name "items" (list (dict "key" $tls.ca.key "path" "ca.crt")))) -}}
{{- end -}}
{{- if and $tls.enabled $tls.client.name -}}
{{- $items := list (dict "key" $tls.client.certKey "path" "tls.crt") (dict "key" $tls.client.keyKey "path" "tls.key") -}}
{{- $sources = append $sources (dict "secret" (dict "name" $tls.client.name "items" $items)) -}}
{{- end -}}
{{- toJson $sources -}}
{{- end }}

{{/* A probe of the operations port. Takes path and port, and what differs from the defaults. */}}
{{- define "ringlog.probe" -}}
{{- $probe := dict "httpGet" (dict "path" .path "port" .port) "periodSeconds" 5 "timeoutSeconds" 3 "failureThreshold" 3 -}}
{{- mergeOverwrite $probe (omit . "path" "port") | toJson -}}
{{- end }}
