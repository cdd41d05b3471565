"""The worker: `worker` is the nest of nurseries, its siblings are the services in it."""
