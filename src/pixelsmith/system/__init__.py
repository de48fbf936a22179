"""Functions of the operating system: safe file writes, signals, memory, paths and the terminal."""
