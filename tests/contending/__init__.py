"""Many outboxes on one PostgreSQL database, which do everything at once; and who sees what happens there."""
