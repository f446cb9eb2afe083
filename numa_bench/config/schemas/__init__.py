"""Structured configs by what they configure; `config.schema` puts them together."""
