"""Many replicas, one truth: the store on a Redis server, a Sentinel group or a Cluster."""
