"""The native backend: continuous batching over a slotted key-value cache, one forward pass a step."""
