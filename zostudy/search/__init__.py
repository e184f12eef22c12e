"""One-shot search: bilevel training of the supernet and discretization."""
