{{/*
Settings of the service. What is not secret is in a ConfigMap; secrets are files, because a container's
environment is shown by `kubectl describe`, inherited by children and found in crash reports.
*/}}

{{- define "fireflow.secretsPath" -}}/etc/fireflow/secrets{{- end -}}

{{/* A number, which Helm may have turned into a float (1.048576e+07), or anything else, as text. */}}
{{- define "fireflow.text" -}}
{{- if kindIs "float64" . -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{/* A duration of the service's, such as `90s` or `5m`, in seconds. What is none is the service's to refuse. */}}
{{- define "fireflow.seconds" -}}
{{- $units := dict "s" 1 "m" 60 "h" 3600 "d" 86400 -}}
{{- $text := toString . -}}
{{- if regexMatch "^[0-9]{1,9}[smhd]$" $text -}}
{{- mul (regexFind "^[0-9]+" $text | int) (get $units (regexFind "[smhd]$" $text)) -}}
{{- else -}}0{{- end -}}
{{- end -}}

{{/* What the chart's own values come to. */}}
{{- define "fireflow.ownConfig" -}}
{{- $v := .Values -}}
{{- $files := include "fireflow.secretsPath" . -}}
{{- $address := $v.http.listenAddress -}}
{{- if contains ":" $address -}}{{- $address = printf "[%s]" $address -}}{{- end -}}
{{- $config := dict
      "FIREFLOW_ENVIRONMENT" $v.environment
      "FIREFLOW_LISTEN" (printf "%s:8080" $address)
      "FIREFLOW_HTTP__BASE_PATH" (default "/" (include "fireflow.basePath" .))
      "FIREFLOW_DATABASE__MAX_CONNECTIONS" (include "fireflow.text" $v.database.maxConnections)
      "FIREFLOW_LOG" $v.log.level
      "FIREFLOW_LOG_FORMAT" $v.log.format
      "FIREFLOW_MIGRATE_ON_START" "false" -}}
{{- range $name, $value := dict
      "FIREFLOW_JWT__ISSUER" $v.jwt.issuer
      "FIREFLOW_JWT__AUDIENCE" $v.jwt.audience
      "FIREFLOW_JWT__MAX_LIFETIME" $v.jwt.maxLifetime
      "FIREFLOW_HTTP__REQUEST_TIMEOUT" $v.http.requestTimeout
      "FIREFLOW_HTTP__MAX_BODY_BYTES" $v.http.maxBodyBytes
      "FIREFLOW_HTTP__MAX_RULE_SET_BYTES" $v.http.maxRuleSetBytes
      "FIREFLOW_HTTP__MAX_IN_FLIGHT" $v.http.maxInFlight
      "FIREFLOW_LIMITS__MAX_RULES" $v.limits.maxRules
      "FIREFLOW_LIMITS__MAX_ENTRIES" $v.limits.maxEntries
      "FIREFLOW_FEATURES__ALLOW" $v.features.allow -}}
{{- if $value -}}{{- $_ := set $config $name (include "fireflow.text" $value) -}}{{- end -}}
{{- end -}}
{{- if $v.metrics.enabled -}}
{{- $_ := set $config "FIREFLOW_METRICS_LISTEN" (printf "%s:9464" $address) -}}
{{- end -}}
{{- if $v.tracing.endpoint -}}
{{- $_ := set $config "FIREFLOW_OTLP_ENDPOINT" $v.tracing.endpoint -}}
{{- $_ := set $config "FIREFLOW_OTLP__PROTOCOL" $v.tracing.protocol -}}
{{- $_ := set $config "FIREFLOW_OTLP__SAMPLE_RATIO" (toString $v.tracing.sampleRatio) -}}
{{- if or $v.tracing.headers $v.tracing.existingSecret -}}
{{- $_ := set $config "FIREFLOW_OTLP__HEADERS_FILE" (printf "%s/otlp-headers" $files) -}}
{{- end -}}
{{- end -}}
{{- if or $v.errors.sentry.dsn $v.errors.sentry.existingSecret -}}
{{- $_ := set $config "FIREFLOW_SENTRY_DSN_FILE" (printf "%s/sentry-dsn" $files) -}}
{{- end -}}
{{- if or $v.jwt.secret $v.jwt.existingSecret -}}
{{- $_ := set $config "FIREFLOW_JWT_SECRET_FILE" (printf "%s/jwt-secret" $files) -}}
{{- end -}}
{{- if eq $v.database.mode "sqlite" -}}
{{- $_ := set $config "FIREFLOW_DATABASE_URL" "sqlite:///data/fireflow.db" -}}
{{- /* The one process that has the file is also the one that can migrate it. */ -}}
{{- $_ := set $config "FIREFLOW_MIGRATE_ON_START" (toString $v.migration.enabled) -}}
{{- else -}}
{{- $_ := set $config "FIREFLOW_DATABASE_URL_FILE" (printf "%s/database-url" $files) -}}
{{- if or $v.database.external.readUrl $v.database.external.readUrlKey -}}
{{- $_ := set $config "FIREFLOW_DATABASE__READ_URL_FILE" (printf "%s/database-read-url" $files) -}}
{{- end -}}
{{- end -}}
{{- if eq $v.database.mode "cloudnativepg" -}}
{{- if $v.database.cloudnativepg.readReplicas -}}
{{- /* The operator's Secret has a URL of the primary alone, so this one goes without the password,
       which the driver then takes from PGPASSWORD. */ -}}
{{- $_ := set $config "FIREFLOW_DATABASE__READ_URL" (printf "postgresql://fireflow@%s-ro.%s:5432/fireflow" (include "fireflow.clusterName" .) .Release.Namespace) -}}
{{- end -}}
{{- if $v.database.cloudnativepg.verifyTLS -}}
{{- $_ := set $config "PGSSLMODE" "verify-full" -}}
{{- $_ := set $config "PGSSLROOTCERT" (printf "%s/database-ca.crt" $files) -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The data of the ConfigMap. */}}
{{- define "fireflow.config" -}}
{{- $config := include "fireflow.ownConfig" . | fromYaml -}}
{{- range $name, $value := .Values.settings -}}
{{- $_ := set $config $name (include "fireflow.text" $value) -}}
{{- end -}}
{{- range $name, $value := $config }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* The data of the Secret that the chart makes: nothing where every secret is somebody else's. */}}
{{- define "fireflow.secretData" -}}
{{- with .Values.jwt.secret }}
jwt-secret: {{ . | b64enc | quote }}
{{- end }}
{{- with .Values.tracing.headers }}
otlp-headers: {{ . | b64enc | quote }}
{{- end }}
{{- with .Values.errors.sentry.dsn }}
sentry-dsn: {{ . | b64enc | quote }}
{{- end }}
{{- if eq .Values.database.mode "external" }}
{{- with .Values.database.external.url }}
database-url: {{ . | b64enc | quote }}
{{- end }}
{{- with .Values.database.external.readUrl }}
database-read-url: {{ . | b64enc | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Where the secrets' files come from, for a projected volume; nothing where there are none.
Takes a dict of "root" and "secret", the name of the Secret that the chart makes.
*/}}
{{- define "fireflow.secretSources" -}}
{{- $v := .root.Values -}}
{{- if $v.jwt.existingSecret }}
- secret:
    name: {{ $v.jwt.existingSecret | quote }}
    items:
      - key: {{ $v.jwt.existingSecretKey | quote }}
        path: jwt-secret
{{- end }}
{{- if $v.tracing.existingSecret }}
- secret:
    name: {{ $v.tracing.existingSecret | quote }}
    items:
      - key: {{ $v.tracing.existingSecretKey | quote }}
        path: otlp-headers
{{- end }}
{{- if $v.errors.sentry.existingSecret }}
- secret:
    name: {{ $v.errors.sentry.existingSecret | quote }}
    items:
      - key: {{ $v.errors.sentry.existingSecretKey | quote }}
        path: sentry-dsn
{{- end }}
{{- if and (eq $v.database.mode "external") $v.database.external.existingSecret }}
- secret:
    name: {{ $v.database.external.existingSecret | quote }}
    items:
      - key: {{ $v.database.external.urlKey | quote }}
        path: database-url
      {{- with $v.database.external.readUrlKey }}
      - key: {{ . | quote }}
        path: database-read-url
      {{- end }}
{{- end }}
{{- if eq $v.database.mode "cloudnativepg" }}
- secret:
    # Made by the operator. Until it is there, pods wait for it before any container starts.
    name: "{{ include "fireflow.clusterName" .root }}-app"
    items:
      - key: uri
        path: database-url
{{- if $v.database.cloudnativepg.verifyTLS }}
- secret:
    name: "{{ include "fireflow.clusterName" .root }}-ca"
    items:
      # The authority's key is in this Secret too, and stays out.
      - key: ca.crt
        path: database-ca.crt
{{- end }}
{{- end }}
{{- if include "fireflow.secretData" .root }}
- secret:
    name: {{ .secret | quote }}
{{- end }}
{{- end -}}

{{/* Environment of every container that opens the database. Takes a dict of "root" and "config", the ConfigMap's name. */}}
{{- define "fireflow.environment" -}}
envFrom:
  - configMapRef:
      name: {{ .config | quote }}
{{- $v := .root.Values }}
{{- $readsReplicas := and (eq $v.database.mode "cloudnativepg") $v.database.cloudnativepg.readReplicas }}
{{- if or $readsReplicas $v.extraEnv }}
env:
  {{- if $readsReplicas }}
  # Of the URL of the read replicas; see values.yaml, readReplicas, for the price.
  - name: PGPASSWORD
    valueFrom:
      secretKeyRef:
        name: "{{ include "fireflow.clusterName" .root }}-app"
        key: password
  {{- end }}
  {{- with $v.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Takes the root. */}}
{{- define "fireflow.volumeMounts" -}}
- name: data
  mountPath: /data
{{- if include "fireflow.secretSources" (dict "root" . "secret" "any") }}
- name: secrets
  mountPath: {{ include "fireflow.secretsPath" . }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes a dict of "root" and "secret", the name of the Secret that the chart makes. */}}
{{- define "fireflow.volumes" -}}
{{- $v := .root.Values -}}
- name: data
  {{- if and (eq $v.database.mode "sqlite") $v.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ default (include "fireflow.fullname" .root) $v.persistence.existingClaim | quote }}
  {{- else if eq $v.database.mode "sqlite" }}
  emptyDir: {}
  {{- else }}
  # The working folder: the only place that may be written to, and hardly ever is.
  emptyDir:
    sizeLimit: 64Mi
  {{- end }}
{{- with include "fireflow.secretSources" . }}
- name: secrets
  projected:
    # The service reads them as the group that the pod's fsGroup names.
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
