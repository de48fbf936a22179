"""What a user asks for, what a model is and what that takes: frozen values that are checked when they are made."""
