"""Whether a release can take over the sagas that earlier shapes began."""
