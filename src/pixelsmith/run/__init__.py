"""One run: its directory, what it starts from, how it goes on, and what can be seen of it."""
