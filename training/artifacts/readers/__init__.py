"""How bytes become rows, format by format. A row that cannot be read is a `Skip` in the place of the row.

`lines` (files and gzip), `json_text`, `delimited` (CSV, TSV), `plain_text`, `columnar` (Parquet, Arrow); `folders` and
`hub` list files and splits.
"""
