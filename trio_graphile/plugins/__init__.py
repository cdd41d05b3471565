"""Plugins that come along: logs, Prometheus, OpenTelemetry, and pages for orchestrators."""
