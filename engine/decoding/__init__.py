"""Token ids to text that may leave the server."""
