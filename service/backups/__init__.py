"""Backups of the database and the checkpoints, and their restoration."""
