"""Z3 as an interpreter of the specification language, and what it proves: bounded model checking."""
