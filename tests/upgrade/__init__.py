"""Whether a release takes over what another began: pairs of declarations, drawn by seed."""
