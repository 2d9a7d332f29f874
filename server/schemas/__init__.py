"""Pydantic models of request and answer bodies; each ends its life in the function that received it."""
