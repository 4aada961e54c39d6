"""How a saga is declared, and what its author writes.

`saga` and `declaration` have the declaration, `checks` and `step_checks` what is refused of it,
`step` what a step's author is given and returns, `tables` the tables that exist already, `asks` how
the class of what a step is asked is made from a request, `money` and `ids` the values that cannot
be wrong. Import from `recourse` itself: it names the public face. A step's function loads `step`
and what its service imports, and no declaration.
"""
