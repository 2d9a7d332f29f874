"""Decoded media to one joint embedding."""
