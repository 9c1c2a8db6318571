"""Request bodies of OpenAI's protocol: read, checked by allow-list, and made into what an engine is sent."""
