{{/*
Names. Kubernetes takes 63 characters; a suffix is never what is cut off. A Service's name begins with a
letter, and a release's need not. Names are quoted wherever they stand: `on`, `null` and `1e3` are some.
*/}}
{{- define "fireflow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "fireflow.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if not (regexMatch "^[a-z]" .Release.Name) -}}
{{- printf "%s-%s" .Chart.Name .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fireflow.migrateName" -}}
{{- printf "%s-migrate" (include "fireflow.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{- define "fireflow.metricsName" -}}
{{- printf "%s-metrics" (include "fireflow.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{- define "fireflow.dashboardName" -}}
{{- printf "%s-dashboard" (include "fireflow.fullname" . | trunc 53 | trimSuffix "-") -}}
{{- end -}}

{{- define "fireflow.testName" -}}
{{- printf "%s-test" (include "fireflow.fullname" . | trunc 58 | trimSuffix "-") -}}
{{- end -}}

{{/* CloudNativePG refuses names of more than 50 characters: its Services and Secrets add suffixes. */}}
{{- define "fireflow.clusterName" -}}
{{- printf "%s-db" (include "fireflow.fullname" . | trunc 47 | trimSuffix "-") -}}
{{- end -}}

{{- define "fireflow.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fireflow.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "fireflow.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/*
Labels. A selector cannot be changed later, so it is the smallest set that is still unambiguous. The
component is part of it: pods of Jobs and tests must never be endpoints of the Service.
Takes a dict of "root" and "component"; the labels also take "extra", further ones.
*/}}
{{- define "fireflow.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fireflow.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- end -}}

{{- define "fireflow.labels" -}}
{{- $own := include "fireflow.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "fireflow" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63) -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) -}}
{{- toYaml (merge $own (default dict .extra) .root.Values.commonLabels) -}}
{{- end -}}

{{/* Labels of pods: without versions, so that a new chart alone rolls nothing. */}}
{{- define "fireflow.podLabels" -}}
{{- $own := include "fireflow.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "fireflow" -}}
{{- toYaml (merge $own (default dict .extra) .root.Values.commonLabels) -}}
{{- end -}}

{{/* The path prefix: empty, or "/fireflow" without a slash at its end. */}}
{{- define "fireflow.basePath" -}}
{{- .Values.http.basePath | trimSuffix "/" -}}
{{- end -}}

{{/* "true" where more than one pod may run. */}}
{{- define "fireflow.isPlural" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}true{{- end -}}
{{- end -}}

{{/* "true" where the Job migrates; see migrate-job.yaml for why not always. */}}
{{- define "fireflow.hasMigrationJob" -}}
{{- if and .Values.migration.enabled (eq .Values.database.mode "external") -}}true{{- end -}}
{{- end -}}

{{/* What does not change from one container to the next. */}}
{{- define "fireflow.container" -}}
image: {{ include "fireflow.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{/* What does not change from one pod to the next. */}}
{{- define "fireflow.pod" -}}
automountServiceAccountToken: false
# The links of a Service named `fireflow` would look like settings.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
