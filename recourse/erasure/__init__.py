"""Erasing one person's data on request, while sums still add up.

`scrub` is what becomes of text, `places` is where a person's data are, and `erase` goes there.
Nothing of it runs in a function: an operator does, with rights of their own. Which of a service's
text stays is declared with its action (`keeps`); docs/retention.md says the rest.
"""
