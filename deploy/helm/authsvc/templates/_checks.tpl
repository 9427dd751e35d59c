{{/* What the schema of the values cannot say. Each message names the value and the remedy. */}}
{{- define "authsvc.checks" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "authsvc.name" .)) }}
{{- fail (printf "fullnameOverride: set it, because %q, made of the release, cannot be the name of a Service: use lower-case letters, digits and '-', beginning with a letter" (include "authsvc.name" .)) }}
{{- end }}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" }}
{{- if hasKey $.Values.podLabels $label }}
{{- fail (printf "podLabels.%s: remove it, because the Deployment finds its pods by this label" $label) }}
{{- end }}
{{- end }}
{{- range $port, $is := dict "8443" .Values.web.enabled "8080" .Values.httpCheck.enabled }}
{{- if and $is (eq $port (toString $.Values.service.port)) }}
{{- fail (printf "service.port: %s is the port of %s; use another one" $port (eq $port "8443" | ternary "web" "httpCheck")) }}
{{- end }}
{{- end }}
{{- if not .Values.database.existingSecret }}
{{- fail "database.existingSecret: name the Secret that holds the URL of the database" }}
{{- end }}
{{- if and (not .Values.tls.existingSecret) (not .Values.insecure) }}
{{- fail "tls.existingSecret: name the Secret with the certificate of the service; or set `insecure: plaintext-beyond-loopback` if a service mesh encrypts the traffic" }}
{{- end }}
{{- if and .Values.tls.existingSecret .Values.insecure }}
{{- fail "insecure: remove it, because tls.existingSecret is set" }}
{{- end }}
{{- if and .Values.tls.clientCA.existingSecret (not .Values.tls.existingSecret) }}
{{- fail "tls.clientCA.existingSecret: client certificates need tls.existingSecret, too" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) }}
{{- fail "autoscaling.maxReplicas: must be at least autoscaling.minReplicas" }}
{{- end }}
{{- range $from := list "settings" "secretSettings" }}
{{- range $name, $_ := index $.Values $from }}
{{- if not (regexMatch "^(AUTHSVC|OTEL)_[A-Z0-9_]+$" $name) }}
{{- fail (printf "%s.%s: use the name of a setting of authsvc, such as AUTHSVC_SCOPES, or of OpenTelemetry, OTEL_*" $from $name) }}
{{- end }}
{{- if has $name (include "authsvc.ownSettings" $ | fromYamlArray) }}
{{- fail (printf "%s.%s: the chart sets it by a value of its own; values.yaml says by which" $from $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.files }}
{{- if not (regexMatch "^[-._a-zA-Z0-9]{1,253}$" $name) }}
{{- fail (printf "files.%s: use a file name of letters, digits, '-', '_' and '.'" $name) }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.settings }}
{{- if has $name (include "authsvc.secrets" $ | fromYamlArray) }}
{{- fail (printf "settings.%s: it is a secret; put it into a Secret, and name that in secretSettings" $name) }}
{{- end }}
{{- if hasKey $.Values.secretSettings $name }}
{{- fail (printf "settings.%s: it is in secretSettings as well; remove one of them" $name) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "authsvc.ownSettings" -}}
- AUTHSVC_ADMIN_LISTEN
- AUTHSVC_DATABASE_POOL_SIZE
- AUTHSVC_DATABASE_URL
- AUTHSVC_DATABASE_URL_FILE
- AUTHSVC_DRAIN_DELAY
- AUTHSVC_DRAIN_GRACE
- AUTHSVC_HTTP_LISTEN
- AUTHSVC_INSECURE
- AUTHSVC_LISTEN
- AUTHSVC_MIGRATION_DATABASE_URL
- AUTHSVC_MIGRATION_DATABASE_URL_FILE
- AUTHSVC_TLS_CERT
- AUTHSVC_TLS_CLIENT_AUTH
- AUTHSVC_TLS_CLIENT_CA
- AUTHSVC_TLS_KEY
- AUTHSVC_WAIT_FOR_DATABASE
- AUTHSVC_WEB_LISTEN
- AUTHSVC_WORKERS
{{- end -}}

{{- define "authsvc.secrets" -}}
- AUTHSVC_KEY
- AUTHSVC_SMTP_URL
- AUTHSVC_WEBHOOK_KEYS
{{- end -}}
