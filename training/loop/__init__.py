"""The loop around the stages.

`demo` (first turn), `turn` (every next one), `client` and `simulate` (the service over HTTP), `checks` (of a running
service), `world` (writes the miniature world's files).
"""
