"""The invoice service of FastAPI's documentation, and the external developer who uses it, as two real services."""
