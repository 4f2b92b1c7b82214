{{/*
The environment of a container as a JSON object, variable to what stands beside its name: so a variable is there once,
whoever says it. Takes root, parts (a list of: kafka, database, identity, webhooks, ops, callers, recordings, snapshots), and extra,
a list of maps in the form of `extraEnv`, the later before the earlier.
*/}}
{{- define "ringlog.environment" -}}
{{- $env := dict "RINGLOG_LOG_FORMAT" (dict "value" "json") -}}
{{- range .parts -}}
{{- $env = include (printf "ringlog.environment.%s" .) $.root | fromJson | merge $env -}}
{{- end -}}
{{- range prepend .extra .root.Values.extraEnv -}}
{{- range $name, $said := . -}}
{{- if kindIs "map" $said -}}
{{- $_ := set $env $name (dict "valueFrom" $said) -}}
{{- else -}}
{{- $_ := set $env $name (dict "value" (include "ringlog.text" $said)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{/* A number of values.yaml is a float, and 1073741824 would become 1.073741824e+09. */}}
{{- define "ringlog.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end }}

{{/* The JSON object as the list of a container. */}}
{{- define "ringlog.environmentList" -}}
{{- range $name, $said := . }}
- name: {{ $name }}
  {{- toYaml $said | nindent 2 }}
{{- end }}
{{- end }}

{{/* Takes name and key of a Secret. */}}
{{- define "ringlog.fromSecret" -}}
{{- dict "valueFrom" (dict "secretKeyRef" (dict "name" .name "key" .key)) | toJson -}}
{{- end }}

{{- define "ringlog.environment.database" -}}
{{- dict "RINGLOG_DATABASE_URL" (include "ringlog.fromSecret" .Values.secrets.databaseUrl | fromJson) | toJson -}}
{{- end }}

{{- define "ringlog.environment.identity" -}}
{{- dict "RINGLOG_IDENTITY_KEY" (include "ringlog.fromSecret" .Values.secrets.identityKey | fromJson) | toJson -}}
{{- end }}

{{- define "ringlog.environment.webhooks" -}}
{{- dict "RINGLOG_WEBHOOK_KEYS" (include "ringlog.fromSecret" .Values.secrets.webhookKeys | fromJson) | toJson -}}
{{- end }}

{{- define "ringlog.environment.ops" -}}
{{- $env := dict -}}
{{- if .Values.secrets.opsKey.name -}}
{{- $_ := set $env "RINGLOG_OPS_KEY" (include "ringlog.fromSecret" .Values.secrets.opsKey | fromJson) -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{- define "ringlog.environment.callers" -}}
{{- $env := dict -}}
{{- range $name, $value := dict "OWN_NUMBERS" .Values.callers.ownNumbers "DEFAULT_REGION" .Values.callers.defaultRegion "CALLER_METADATA_KEY" .Values.callers.metadataKey -}}
{{- if $value -}}
{{- $_ := set $env (printf "RINGLOG_%s" $name) (dict "value" $value) -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{- define "ringlog.environment.recordings" -}}
{{- dict "RINGLOG_RECORDINGS_URL" (dict "value" .Values.recordings.url) | toJson -}}
{{- end }}

{{- define "ringlog.environment.snapshots" -}}
{{- $env := dict -}}
{{- range $name, $value := dict "RINGLOG_SNAPSHOTS_URL" .Values.snapshots.url "RINGLOG_SNAPSHOTS_KEEP" .Values.snapshots.keep -}}
{{- if $value -}}
{{- $_ := set $env $name (dict "value" (include "ringlog.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{- define "ringlog.environment.kafka" -}}
{{- $kafka := .Values.kafka -}}
{{- $said := dict
  "KAFKA_BOOTSTRAP_SERVERS" $kafka.bootstrapServers
  "TOPIC_PREFIX" $kafka.topicPrefix
  "TOPIC_PARTITIONS" .Values.topics.partitions
  "TOPIC_REPLICATION" .Values.topics.replication
  "TOPIC_MIN_INSYNC" .Values.topics.minInsync
  "ALLOW_FORGETFUL_TOPICS" (ternary "true" "" .Values.topics.allowForgetful)
  "KAFKA_SASL_MECHANISM" $kafka.sasl.mechanism -}}
{{- $secret := dict -}}
{{- $tls := $kafka.tls.enabled -}}
{{- if $kafka.sasl.mechanism -}}
{{- $_ := set $said "KAFKA_SECURITY_PROTOCOL" (ternary "SASL_SSL" "SASL_PLAINTEXT" $tls) -}}
{{- if eq $kafka.sasl.mechanism "OAUTHBEARER" -}}
{{- $oauth := $kafka.sasl.oauth -}}
{{- $_ := set $said "KAFKA_SASL_OAUTH_TOKEN_URL" $oauth.tokenUrl -}}
{{- $_ := set $said "KAFKA_SASL_OAUTH_SCOPE" $oauth.scope -}}
{{- $_ := set $secret "KAFKA_SASL_OAUTH_CLIENT_ID" (dict "name" $oauth.name "key" $oauth.clientIdKey) -}}
{{- $_ := set $secret "KAFKA_SASL_OAUTH_CLIENT_SECRET" (dict "name" $oauth.name "key" $oauth.clientSecretKey) -}}
{{- else -}}
{{- $_ := set $secret "KAFKA_SASL_USERNAME" (dict "name" $kafka.sasl.name "key" $kafka.sasl.usernameKey) -}}
{{- $_ := set $secret "KAFKA_SASL_PASSWORD" (dict "name" $kafka.sasl.name "key" $kafka.sasl.passwordKey) -}}
{{- end -}}
{{- else if $tls -}}
{{- $_ := set $said "KAFKA_SECURITY_PROTOCOL" "SSL" -}}
{{- end -}}
{{- if and $tls $kafka.tls.ca.name -}}
{{- $_ := set $said "KAFKA_SSL_CAFILE" "/etc/ringlog/kafka/ca.crt" -}}
{{- end -}}
{{- if and $tls $kafka.tls.client.name -}}
{{- $_ := set $said "KAFKA_SSL_CERTFILE" "/etc/ringlog/kafka/tls.crt" -}}
{{- $_ := set $said "KAFKA_SSL_KEYFILE" "/etc/ringlog/kafka/tls.key" -}}
{{- if $kafka.tls.client.passwordKey -}}
{{- $_ := set $secret "KAFKA_SSL_PASSWORD" (dict "name" $kafka.tls.client.name "key" $kafka.tls.client.passwordKey) -}}
{{- end -}}
{{- end -}}
{{- $env := dict -}}
{{- range $name, $value := $said -}}
{{- if $value -}}
{{- $_ := set $env (printf "RINGLOG_%s" $name) (dict "value" (include "ringlog.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $from := $secret -}}
{{- $_ := set $env (printf "RINGLOG_%s" $name) (include "ringlog.fromSecret" $from | fromJson) -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}
