"""What kills services under load, and finds out whether anything was lost that they had promised."""
