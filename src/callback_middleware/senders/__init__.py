"""Senders, one HTTP library per module."""
