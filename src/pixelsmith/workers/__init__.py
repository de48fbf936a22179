"""Several devices for one picture: of this machine, or of a Ray cluster (docs/how-to/many-devices.md)."""
