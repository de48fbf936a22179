"""The method of the paper as pure functions of arrays: no files, no model library, no choice of device."""
