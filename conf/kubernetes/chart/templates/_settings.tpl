{{- /* The settings file: JSON's texts, lists and booleans are TOML's; Helm takes every number for one with a fraction. */ -}}
{{- define "podwire.settings" -}}
{{- range $key, $value := .Values.settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ if kindIs "float64" $value }}{{ int64 $value }}{{ else }}{{ toJson $value }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
