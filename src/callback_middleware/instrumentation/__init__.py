"""Observers that tell people and systems what happens."""
