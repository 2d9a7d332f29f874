"""The contestants of `benchmarks.decode`, each in a process of its own."""
