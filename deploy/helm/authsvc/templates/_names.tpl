{{/* The name of all objects: of the release, and of the chart unless it is part of that. */}}
{{- define "authsvc.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects pods: (dict "root" $ "component" "server"). It must never change. */}}
{{- define "authsvc.selector" -}}
app.kubernetes.io/name: authsvc
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "authsvc.labels" -}}
{{ include "authsvc.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | trimAll "-._" | quote }}
{{- if .root.Values.helm }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}
{{- end -}}

{{- define "authsvc.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- .Values.image.repository }}:{{ $tag }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ end }}
{{- end -}}

{{/* A Job that kubectl applies bears the release in its name, because a Job cannot be changed. */}}
{{- define "authsvc.migrateName" -}}
{{- $name := printf "%s-migrate" (include "authsvc.name" .) -}}
{{- if .Values.helm -}}
{{- $name -}}
{{- else -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion | lower | replace "." "-" | replace "_" "-" -}}
{{- printf "%s-%s" $name $tag | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "authsvc.administratorSecret" -}}
{{- .Values.bootstrap.secretName | default (printf "%s-administrator" (include "authsvc.name" .)) -}}
{{- end -}}
