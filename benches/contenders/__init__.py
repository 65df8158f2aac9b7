"""One module for each contender; each follows `benches.contender.Contender`."""
