"""Everything that finds items: generative, classical, and finders made of others. Kinds are in `genrail.finding`."""
