"""The documents, what generates parts of them (`make docs`), and what takes their pictures (`make pictures`)."""
