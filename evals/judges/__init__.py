"""Small judges that run offline, each versioned by the hash of its weights."""
