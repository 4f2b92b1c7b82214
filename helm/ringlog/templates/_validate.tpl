{{/* What a schema can't say: one sentence for the first thing that is missing. */}}
{{- define "ringlog.validate" -}}
{{- if not (regexMatch "^[^0-9]" (include "ringlog.fullname" .)) -}}
{{- fail (printf "%q is no name for a Service, which begins with a letter: set fullnameOverride." (include "ringlog.fullname" .)) -}}
{{- end -}}
{{- range $secret := list "webhookKeys" "identityKey" "databaseUrl" -}}
{{- if not (get $.Values.secrets $secret).name -}}
{{- fail (printf "secrets.%s.name is empty: name the Secret; its pods would wait for one without a name." $secret) -}}
{{- end -}}
{{- end -}}
{{- include "ringlog.validate.kafka" .Values.kafka -}}
{{- include "ringlog.validate.consumers" . -}}
{{- $grace := (include "ringlog.effectivePod" (dict "root" . "own" .Values.service.pod) | fromJson).terminationGracePeriodSeconds -}}
{{- if lt (int $grace) (add (int .Values.service.preStopSeconds) 30 | int) -}}
{{- fail (printf "service.pod.terminationGracePeriodSeconds is %d: preStopSeconds, and thirty for what is in flight and the builder, need %d." (int $grace) (add (int .Values.service.preStopSeconds) 30)) -}}
{{- end -}}
{{- if and .Values.snapshots.every (not .Values.snapshots.url) -}}
{{- fail "snapshots.url is empty, and snapshots.every is not: snapshots in a replica's own volume would be lost with it. Name a place, s3://bucket/prefix." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the host under which the provider reaches the webhooks." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway." -}}
{{- end -}}
{{- end }}

{{- define "ringlog.validate.kafka" -}}
{{- if not .bootstrapServers -}}
{{- fail "kafka.bootstrapServers is not set: name your Kafka as host:port, several separated by commas." -}}
{{- end -}}
{{- with .tls -}}
{{- if and (not .enabled) (or .ca.name .client.name) -}}
{{- fail "kafka.tls.enabled is false, and kafka.tls names certificates: nothing would be encrypted. Set it, or take the names out." -}}
{{- end -}}
{{- end -}}
{{- with .sasl -}}
{{- if and (not .mechanism) (or .name .oauth.name) -}}
{{- fail "kafka.sasl.mechanism is empty, and kafka.sasl names a Secret: nobody would authenticate. Name the mechanism, or take the name out." -}}
{{- end -}}
{{- if and (eq .mechanism "OAUTHBEARER") (not (and .oauth.tokenUrl .oauth.name)) -}}
{{- fail "kafka.sasl.oauth.tokenUrl and kafka.sasl.oauth.name are needed with kafka.sasl.mechanism=OAUTHBEARER." -}}
{{- end -}}
{{- if and .mechanism (ne .mechanism "OAUTHBEARER") (not .name) -}}
{{- fail (printf "kafka.sasl.name is not set: name the Secret with user and password for %s." .mechanism) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ringlog.validate.consumers" -}}
{{- range $name, $one := include "ringlog.consumers" . | fromJson -}}
{{- if and (eq $name "recordings") (not $.Values.recordings.url) -}}
{{- fail "recordings.url is not set: the recordings consumer needs s3://bucket/prefix, or consumers.recordings.enabled=false." -}}
{{- end -}}
{{- if and (not $one.ours) (not $one.image) (not $one.args) (not $one.command) -}}
{{- fail (printf "consumers.%s is none of ringlog's: say its image, its command or its args." $name) -}}
{{- end -}}
{{- if and $one.image.repository (not $one.image.tag) (not $one.image.digest) -}}
{{- fail (printf "consumers.%s.image has neither tag nor digest: ringlog's own version would be taken for one of %s." $name $one.image.repository) -}}
{{- end -}}
{{- if and (eq $one.scaling.mode "keda") (or $.Values.kafka.tls.enabled $.Values.kafka.sasl.mechanism) (not $one.scaling.authentication) -}}
{{- fail (printf "consumers.%s.scaling.authentication is empty: name the TriggerAuthentication by which KEDA reaches a Kafka with TLS or SASL." $name) -}}
{{- end -}}
{{- if and (eq $one.scaling.mode "keda") (not $one.scaling.topics) -}}
{{- fail (printf "consumers.%s.scaling.topics is empty: name the topics whose lag counts." $name) -}}
{{- end -}}
{{- if and $one.ours (eq $name "recordings") (eq $one.scaling.mode "keda") (eq (int $one.scaling.min) 0) -}}
{{- fail "consumers.recordings.scaling.min is 0: what is to be fetched, and fetched again, are rows that its own process works on, and no lag tells of them. Set it to 1." -}}
{{- end -}}
{{- if gt (int $one.scaling.min) (int $one.scaling.max) -}}
{{- fail (printf "consumers.%s.scaling.min is more than its max." $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
