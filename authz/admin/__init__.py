"""The operator's side: metrics, health and the admin API."""
