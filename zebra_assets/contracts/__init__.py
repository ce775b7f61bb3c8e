"""The nouns: frozen values with no I/O, made of the standard library, pydantic and yaml."""
