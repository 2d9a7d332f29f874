"""Load tests of any server that speaks OpenAI's chat completions: traffic, measurement, report."""
