"""Plans of requests: sizes of the stages, patches, memory and time, computed without running anything."""
