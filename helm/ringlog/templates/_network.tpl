{{/* What every pod may reach: names, Kafka, and what the values add. Takes policy and ports. */}}
{{- define "ringlog.baseEgress" }}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
- ports:
    {{- range .ports | uniq }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .policy.kafkaTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
