"""What programs call: a loaded model, and the same as functions."""
