"""Bytes to arrays: sniff, fetch, decode. No torch."""
