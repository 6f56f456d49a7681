"""What the tests share: a clock that tests move, builders, messages, and the invariants."""
