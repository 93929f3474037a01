{{/*
Combinations that values.schema.json cannot refuse, each with one sentence that says what to set. They
stop the rendering, so that no half-valid configuration reaches a cluster. No sentence repeats a secret.
*/}}

{{- define "fireflow.validate" -}}
{{- include "fireflow.validateTokens" . -}}
{{- include "fireflow.validateDatabase" . -}}
{{- include "fireflow.validateScale" . -}}
{{- include "fireflow.validateNetwork" . -}}
{{- include "fireflow.validateTelemetry" . -}}
{{- include "fireflow.validateSettings" . -}}
{{- end -}}

{{- define "fireflow.validateTokens" -}}
{{- $jwt := .Values.jwt -}}
{{- if and $jwt.secret $jwt.existingSecret -}}
{{- fail "jwt.secret and jwt.existingSecret are both given: set one of them" -}}
{{- end -}}
{{- if ne .Values.environment "local" -}}
{{- if not (or $jwt.secret $jwt.existingSecret (get .Values.settings "FIREFLOW_JWT__PUBLIC_KEYS")) -}}
{{- fail "there is no JWT secret: set jwt.existingSecret to the name of a Secret that holds one, or jwt.secret, or settings.FIREFLOW_JWT__PUBLIC_KEYS to a file of public keys" -}}
{{- end -}}
{{- if not $jwt.issuer -}}
{{- fail "jwt.issuer must be set outside `local`: every token must have it as `iss`" -}}
{{- end -}}
{{- if not $jwt.audience -}}
{{- fail "jwt.audience must be set outside `local`: every token must have it in `aud`" -}}
{{- end -}}
{{- if $jwt.secret -}}
{{- $found := false -}}
{{- range splitList "\n" $jwt.secret -}}
{{- $line := trim . -}}
{{- if and $line (not (hasPrefix "#" $line)) -}}
{{- $found = true -}}
{{- if lt (len $line) 32 -}}
{{- fail "jwt.secret is too short: outside `local`, every line must have 32 bytes or more" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- fail "jwt.secret is too short: it contains no secret, only spaces or comments" -}}
{{- end -}}
{{- end -}}
{{- else if and (include "fireflow.isPlural" .) (not (or $jwt.secret $jwt.existingSecret)) -}}
{{- fail "several pods would each generate their own JWT secret: set jwt.existingSecret or jwt.secret" -}}
{{- end -}}
{{- end -}}

{{- define "fireflow.validateDatabase" -}}
{{- $db := .Values.database -}}
{{- $ext := $db.external -}}
{{- if eq $db.mode "sqlite" -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "SQLite serves one process: set autoscaling.enabled to false, or database.mode to `external` or `cloudnativepg`" -}}
{{- end -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- fail "SQLite serves one process: set replicaCount to 1, or database.mode to `external` or `cloudnativepg`" -}}
{{- end -}}
{{- if and (not .Values.persistence.enabled) (ne .Values.environment "local") -}}
{{- fail "the SQLite database would be lost with its pod: set persistence.enabled to true" -}}
{{- end -}}
{{- end -}}
{{- if and (ne $db.mode "external") (or $ext.readUrl $ext.readUrlKey) -}}
{{- fail (printf "your own read replica requires database.mode `external`, not `%s`: remove database.external.readUrl and readUrlKey" $db.mode) -}}
{{- end -}}
{{- if and (ne $db.mode "external") (or $ext.url $ext.existingSecret) -}}
{{- fail (printf "database.external.url or existingSecret is given, but database.mode is `%s`: set it to `external`, or remove them" $db.mode) -}}
{{- end -}}
{{- if eq $db.mode "external" -}}
{{- if and $ext.url $ext.existingSecret -}}
{{- fail "database.external.url and database.external.existingSecret are both given: set one of them" -}}
{{- end -}}
{{- if not (or $ext.url $ext.existingSecret) -}}
{{- fail "there is no database: set database.external.existingSecret to the name of a Secret that holds its URL, or database.external.url" -}}
{{- end -}}
{{- if and $ext.existingSecret $ext.readUrl -}}
{{- fail "database.external.readUrl requires database.external.url: with existingSecret, set readUrlKey" -}}
{{- end -}}
{{- if and $ext.url $ext.readUrlKey -}}
{{- fail "database.external.readUrlKey is a key of database.external.existingSecret: with url, set readUrl" -}}
{{- end -}}
{{- range list $ext.url $ext.readUrl -}}
{{- if and . (not (regexMatch "^postgres(ql)?://." .)) -}}
{{- fail "database.external.url and readUrl must begin with `postgres://`" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $db.mode "cloudnativepg") $db.cloudnativepg.readReplicas (lt (int $db.cloudnativepg.instances) 2) -}}
{{- fail "one instance has no replicas to read from: set database.cloudnativepg.instances to 2 or more, or readReplicas to false" -}}
{{- end -}}
{{- end -}}

{{- define "fireflow.validateScale" -}}
{{- $hpa := .Values.autoscaling -}}
{{- $pdb := .Values.podDisruptionBudget -}}
{{- $fewest := int .Values.replicaCount -}}
{{- if $hpa.enabled -}}
{{- $fewest = int $hpa.minReplicas -}}
{{- if gt (int $hpa.minReplicas) (int $hpa.maxReplicas) -}}
{{- fail "autoscaling.minReplicas is greater than autoscaling.maxReplicas: set it to the same or less" -}}
{{- end -}}
{{- if not (or $hpa.targetCPUUtilizationPercentage $hpa.targetMemoryUtilizationPercentage) -}}
{{- fail "the autoscaler has no target: set autoscaling.targetCPUUtilizationPercentage or targetMemoryUtilizationPercentage" -}}
{{- end -}}
{{- $requests := default dict .Values.resources.requests -}}
{{- if or (and $hpa.targetCPUUtilizationPercentage (not $requests.cpu)) (and $hpa.targetMemoryUtilizationPercentage (not $requests.memory)) -}}
{{- fail "the autoscaler's targets are percentages of requests: set resources.requests for each of them" -}}
{{- end -}}
{{- end -}}
{{- if $pdb.enabled -}}
{{- $hasMin := not (kindIs "invalid" $pdb.minAvailable) -}}
{{- if and $hasMin (not (kindIs "invalid" $pdb.maxUnavailable)) -}}
{{- fail "podDisruptionBudget.minAvailable and maxUnavailable are both given: set one of them" -}}
{{- end -}}
{{- if lt $fewest 2 -}}
{{- fail "a disruption budget for a single pod would block every drain of its node: set podDisruptionBudget.enabled to false, or run two pods or more" -}}
{{- end -}}
{{- if $hasMin -}}
{{- $min := int $pdb.minAvailable -}}
{{- if kindIs "string" $pdb.minAvailable -}}
{{- /* Kubernetes rounds a percentage up to whole pods. */ -}}
{{- $min = div (add (mul (int (trimSuffix "%" $pdb.minAvailable)) $fewest) 99) 100 -}}
{{- end -}}
{{- if ge (int $min) $fewest -}}
{{- fail "podDisruptionBudget.minAvailable would block every drain: set it to less than the number of pods" -}}
{{- end -}}
{{- else if and (not (kindIs "invalid" $pdb.maxUnavailable)) (has (toString $pdb.maxUnavailable) (list "0" "0%")) -}}
{{- fail "podDisruptionBudget.maxUnavailable would block every drain: set it to 1 or more" -}}
{{- end -}}
{{- end -}}
{{- $drain := include "fireflow.seconds" (default "3s" (get .Values.settings "FIREFLOW_HTTP__DRAIN_DELAY")) -}}
{{- $stop := include "fireflow.seconds" (default "10s" (get .Values.settings "FIREFLOW_HTTP__STOP_TIMEOUT")) -}}
{{- $least := add (int .Values.preStopSleepSeconds) (int $drain) (int $stop) 2 -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $least) -}}
{{- fail (printf "pods would be killed while requests are in progress: set terminationGracePeriodSeconds to at least %d, the sum of preStopSleepSeconds, FIREFLOW_HTTP__DRAIN_DELAY and FIREFLOW_HTTP__STOP_TIMEOUT, plus 2" $least) -}}
{{- end -}}
{{- end -}}

{{- define "fireflow.validateNetwork" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "the ingress has no host: set ingress.hosts" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "the HTTPRoute has no Gateway: set gateway.parentRefs" -}}
{{- end -}}
{{- if and (eq .Values.environment "local") (or .Values.ingress.enabled .Values.gateway.enabled (ne .Values.service.type "ClusterIP")) -}}
{{- fail "a `local` service must not be reachable from outside the cluster, because it requires no issuer, no audience and no secret: set environment to `staging` or `production`" -}}
{{- end -}}
{{- $needsIPv6 := or (has "IPv6" .Values.service.ipFamilies) (eq .Values.service.ipFamilyPolicy "RequireDualStack") -}}
{{- if and $needsIPv6 (not (contains ":" .Values.http.listenAddress)) -}}
{{- fail "the Service has IPv6, but the pods would listen on IPv4 only: set http.listenAddress to `::`" -}}
{{- end -}}
{{- end -}}

{{/* Seconds of `30s`, `1m` or `1h`. */}}
{{- define "fireflow.seconds" -}}
{{- mul (regexFind "^[0-9]+" . | int) (get (dict "s" 1 "m" 60 "h" 3600) (regexFind "[a-z]$" .)) -}}
{{- end -}}

{{- define "fireflow.validateTelemetry" -}}
{{- $monitor := .Values.metrics.serviceMonitor -}}
{{- if and $monitor.enabled (not .Values.metrics.enabled) -}}
{{- fail "the ServiceMonitor has nothing to scrape: set metrics.enabled to true" -}}
{{- end -}}
{{- if and $monitor.interval $monitor.scrapeTimeout -}}
{{- if gt (include "fireflow.seconds" $monitor.scrapeTimeout | int) (include "fireflow.seconds" $monitor.interval | int) -}}
{{- fail "metrics.serviceMonitor.scrapeTimeout is longer than interval, which Prometheus refuses: set it to the same or less" -}}
{{- end -}}
{{- end -}}
{{- $tracing := .Values.tracing -}}
{{- if $tracing.endpoint -}}
{{- if not (regexMatch "^https?://[^/@\\s]+(/[^@\\s]*)?$" $tracing.endpoint) -}}
{{- fail "tracing.endpoint must be a URL that begins with `http://` or `https://`, without a password: put secrets into tracing.existingSecret" -}}
{{- end -}}
{{- if hasSuffix "/v1/traces" (trimSuffix "/" $tracing.endpoint) -}}
{{- fail "tracing.endpoint is the base URL: omit `/v1/traces`, which the service adds" -}}
{{- end -}}
{{- else if or $tracing.headers $tracing.existingSecret -}}
{{- fail "there are headers for a collector, but no collector: set tracing.endpoint" -}}
{{- end -}}
{{- if and $tracing.headers $tracing.existingSecret -}}
{{- fail "tracing.headers and tracing.existingSecret are both given: set one of them" -}}
{{- end -}}
{{- $sentry := .Values.errors.sentry -}}
{{- if and $sentry.dsn $sentry.existingSecret -}}
{{- fail "errors.sentry.dsn and errors.sentry.existingSecret are both given: set one of them" -}}
{{- end -}}
{{- if and $sentry.dsn (not (regexMatch "^https?://[^/@\\s]+@[^/@\\s]+/\\S+$" $sentry.dsn)) -}}
{{- fail "errors.sentry.dsn is not a DSN: use the form `https://KEY@HOST/PROJECT`" -}}
{{- end -}}
{{- end -}}

{{- define "fireflow.validateSettings" -}}
{{- $secrets := list
      "FIREFLOW_JWT_SECRET" "FIREFLOW_JWT__SECRET"
      "FIREFLOW_DATABASE_URL" "FIREFLOW_DATABASE__URL"
      "FIREFLOW_DATABASE_READ_URL" "FIREFLOW_DATABASE__READ_URL"
      "FIREFLOW_OTLP_HEADERS" "FIREFLOW_OTLP__HEADERS"
      "FIREFLOW_SENTRY_DSN" "FIREFLOW_SENTRY__DSN" -}}
{{- $own := include "fireflow.ownConfig" . | fromYaml -}}
{{- /* These too, even if they are off: ports, policies and files depend on them. */ -}}
{{- range list
      "FIREFLOW_METRICS_LISTEN" "FIREFLOW_METRICS__LISTEN"
      "FIREFLOW_OTLP_ENDPOINT" "FIREFLOW_OTLP__ENDPOINT"
      "FIREFLOW_OTLP__PROTOCOL" "FIREFLOW_OTLP__SAMPLE_RATIO" -}}
{{- $_ := set $own . "" -}}
{{- end -}}
{{- range $name, $_ := .Values.settings -}}
{{- if has (trimSuffix "_FILE" $name) $secrets -}}
{{- fail (printf "settings.%s would put a secret into a ConfigMap: set it under jwt, database, tracing or errors" $name) -}}
{{- end -}}
{{- if hasKey $own $name -}}
{{- fail (printf "settings.%s is also set by another value of this chart: use that one (see values.yaml)" $name) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has (trimSuffix "_FILE" .name) $secrets -}}
{{- fail (printf "extraEnv must not set %s: set it under jwt, database, tracing or errors, so that it is mounted as a file" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
