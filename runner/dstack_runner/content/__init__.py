"""Moves files between a job's workspace and the server's store: scan, save, fetch, cache, mount."""
