"""Instructions of the miniature world with good and flawed answers, by the ten use cases of InstructGPT."""
