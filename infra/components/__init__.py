"""Components: each one capability, with keyword-only arguments, exposing what it made."""
