"""Published checkpoints in an object store: `push` puts them there, `pull` brings them to a home."""
