"""Which records become notices. Pure, but for the chance that is given to it."""
