"""What AWS is asked for: components, each one capability, and the stacks that compose them."""
