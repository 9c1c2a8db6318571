"""What every stage runs on.

`runs` (lock, saved state, progress), `configuration` (presets, command lines), `processes`.
"""
