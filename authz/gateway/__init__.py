"""Gateways: their configuration rendered, the managed Envoy kept running."""
