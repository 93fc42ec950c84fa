"""Training of classifiers: from a config to a model folder. `loop.train` is where to begin
reading."""
