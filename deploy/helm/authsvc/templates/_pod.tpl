{{/* What each pod has: it meets the Pod Security Standard "restricted". */}}
{{- define "authsvc.podDefaults" -}}
# The variables of a Service named authsvc, such as AUTHSVC_PORT, would be taken for unknown settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65534
  runAsGroup: 65534
  fsGroup: 65534
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "authsvc.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The database, for all pods. */}}
{{- define "authsvc.databaseEnv" -}}
- name: AUTHSVC_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "database.existingSecret: name the Secret that holds the URL of the database" .Values.database.existingSecret | quote }}
      key: {{ .Values.database.key | quote }}
{{- if .Values.database.tls.existingSecret }}
- name: PGSSLMODE
  value: verify-full
- name: PGSSLROOTCERT
  value: {{ printf "/etc/authsvc/database/%s" .Values.database.tls.key | quote }}
{{- end }}
{{- end -}}

{{/*
Settings of the operator: (dict "root" $), and of these only some with "only" (list …).
*/}}
{{- define "authsvc.settingsEnv" -}}
{{- $root := .root }}
{{- $only := .only }}
{{- range $name, $value := $root.Values.settings }}
{{- if or (not $only) (has $name $only) }}
{{- $text := toString $value }}
{{- if and (kindIs "bool" $value) (hasPrefix "AUTHSVC_" $name) }}
{{- /* YAML reads `on` and `off` as booleans; all settings that are switches know these two words. */}}
{{- $text = ternary "on" "off" $value }}
{{- else if and (kindIs "float64" $value) (eq (float64 (int64 $value)) $value) }}
{{- /* Helm reads numbers as floating-point numbers and would write a large one as 1e+06. */}}
{{- $text = int64 $value | toString }}
{{- end }}
- name: {{ $name }}
  value: {{ quote $text }}
{{- end }}
{{- end }}
{{- range $name, $source := $root.Values.secretSettings }}
{{- if or (not $only) (has $name $only) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $source.secret | quote }}
      key: {{ $source.key | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Files of replicas and of the bootstrap Job, which takes the same settings. */}}
{{- define "authsvc.mounts" -}}
{{- if .Values.database.tls.existingSecret }}
{{ include "authsvc.databaseMount" . }}
{{- end }}
{{- if .Values.files }}
- name: files
  mountPath: /etc/authsvc/files
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "authsvc.databaseMount" -}}
- name: database-ca
  mountPath: /etc/authsvc/database
  readOnly: true
{{- end -}}

{{- define "authsvc.databaseVolume" -}}
- name: database-ca
  secret:
    secretName: {{ .Values.database.tls.existingSecret | quote }}
    items:
      - key: {{ .Values.database.tls.key | quote }}
        path: {{ .Values.database.tls.key | quote }}
{{- end -}}

{{- define "authsvc.volumes" -}}
{{- if .Values.database.tls.existingSecret }}
{{ include "authsvc.databaseVolume" . }}
{{- end }}
{{- if .Values.files }}
- name: files
  configMap:
    name: {{ include "authsvc.name" . }}-files
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of replicas alone. Directories, not single files: the kubelet replaces their content at a renewal. */}}
{{- define "authsvc.serverMounts" -}}
{{- if .Values.tls.existingSecret }}
- name: tls
  mountPath: /etc/authsvc/tls
  readOnly: true
{{- end }}
{{- if .Values.tls.clientCA.existingSecret }}
- name: client-ca
  mountPath: /etc/authsvc/client-ca
  readOnly: true
{{- end }}
{{ include "authsvc.mounts" . }}
{{- end -}}

{{- define "authsvc.serverVolumes" -}}
{{- if .Values.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret | quote }}
    # For the group of `fsGroup`.
    defaultMode: 0440
{{- end }}
{{- if .Values.tls.clientCA.existingSecret }}
- name: client-ca
  secret:
    secretName: {{ .Values.tls.clientCA.existingSecret | quote }}
{{- end }}
{{ include "authsvc.volumes" . }}
{{- end -}}
