"""The nouns of BindChat: types, errors, registries, configuration, telemetry. Imports nothing of ours."""
