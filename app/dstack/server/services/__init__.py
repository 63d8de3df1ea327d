"""What the server does, one verb a file: load, decide, write. No service imports another; what follows from one is a
delivery or an outbox mark in the same transaction."""
