"""A stand-in for Stripe on loopback, and the shapes that it and what asks it are held to."""
