"""The contract between training, serving and measuring, in plain Python.

`checkpoints`  published models and their manifests
`conversations`, `templates`, `encoding`, `rendering`  messages as text and as token ids
`scores`       where a reward model's score is read
`rows`, `readers`, `loading`, `layouts`, `skips`  files, folders and hub data sets as typed records
`comparisons`  rankings and their frozen files
`errors`, `files`, `text`, `machine`, `progress`, `provenance`  small tools
"""
