"""A pytest plugin: a failing example of Hypothesis is taken as it is, for one is enough here."""

from hypothesis import Phase, settings

settings.register_profile(
    "mutants", phases=[Phase.explicit, Phase.generate], database=None, deadline=None
)
settings.load_profile("mutants")
