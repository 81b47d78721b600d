"""What goes wrong between the processes of a fleet and their PostgreSQL, brought about on purpose."""
