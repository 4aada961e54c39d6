"""Stacks: they compose components and grant rights; they hold no logic of their own."""
