"""Demo, benchmarks and experiments: users of Baton through its client and its real processes."""
